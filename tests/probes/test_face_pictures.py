"""Pictures of the nearest faces of other people, and of an embedding."""

import numpy as np
import pytest

from fer_jax.probes import face_pictures


@pytest.fixture
def faces():
    """Features, emotions and people; the features [24, 13] depend most on the person."""
    rng = np.random.default_rng(0)
    people = [f"p{p}" for p in range(6) for _ in range(4)]
    emotions = ["angry", "happy", "neutral", "sad"] * 6
    features = np.concatenate(
        [
            np.repeat(np.eye(6), 4, axis=0),
            0.3 * np.tile(np.eye(4), (6, 1)),
            0.001 * rng.normal(size=(24, 3)),
        ],
        axis=1,
    )
    return features, emotions, people


def test_neighbours_are_of_other_people_most_similar_first(faces):
    features, emotions, people = faces
    found = face_pictures.neighbours(features, people, 5)
    assert found.shape == (24, 5)
    for face, row in enumerate(found):
        assert all(people[other] != people[face] for other in row)
        assert {emotions[other] for other in row} == {emotions[face]}  # one of each other person
        cosine = [features[face] @ features[o] / np.linalg.norm(features[o]) for o in row]
        assert cosine == sorted(cosine, reverse=True)
    np.testing.assert_array_equal(face_pictures.neighbours(features * 7, people, 5), found)
    two = [p in ("p0", "p1") for p in people]
    assert face_pictures.neighbours(features[two][:5], people[:5], 5).shape == (5, 1)


def test_queries_cover_every_emotion_and_many_people(faces):
    _, emotions, people = faces
    chosen = face_pictures.choose_queries(emotions, people, 6)
    assert [emotions[c] for c in chosen] == ["angry", "happy", "neutral", "sad", "angry", "happy"]
    assert len({people[c] for c in chosen}) == 6
    assert len(set(face_pictures.choose_queries(emotions, people, 50))) == 24


def test_no_map_is_drawn_for_few_faces(faces, tmp_path):
    features, emotions, people = faces
    face_pictures.draw_embedding(tmp_path / "few.png", features[:9], emotions[:9], people[:9])
    assert not (tmp_path / "few.png").exists()
