import cv2
import jax.numpy as jnp
import joblib
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.faces.cascade import boxes as box_rules
from fer_jax.faces.cascade import networks, patches, pyramid, weights
from fer_jax.faces.images import halve


def test_weights_have_the_published_shapes():
    loaded = weights.load_weights()
    sizes = {name: sum(array.size for array in part.values()) for name, part in loaded.items()}
    assert sizes == {"pnet": 6632, "rnet": 100178, "onet": 389040}
    assert loaded["onet"]["landmarks/kernel"].shape == (256, 10)


def test_modified_weights_are_refused_before_unpickling(tmp_path, monkeypatch):
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("unpickled an unknown file"))
    (tmp_path / "pnet.lz4").write_bytes(b"anything")
    with pytest.raises(UserError, match="not the file of mtcnn"):
        weights.read_network(tmp_path / "pnet.lz4", "pnet")
    with pytest.raises(UserError, match="cannot read"):
        weights.read_network(tmp_path / "absent.lz4", "pnet")
    assert all(len(digest) == 64 for digest in weights.SHA256.values())


@pytest.mark.parametrize("length", [12, 31, 240, 353, 360, 640, 1080, 4000])
def test_the_canvas_is_slightly_larger_than_the_image(length):
    canvas = pyramid.canvas_size(length)
    assert length <= canvas <= length * (1 + 1 / 32) + 1
    assert pyramid.canvas_size(canvas) == canvas


def test_the_canvas_of_common_video_sizes_is_not_larger():
    assert [pyramid.canvas_size(n) for n in (240, 320, 360, 480, 640, 720, 1280, 1920)] == [
        *(240, 320, 360, 480, 640, 720, 1280, 1920)
    ]


def test_no_level_is_smaller_than_a_cell_for_any_min_face():
    for min_face in (10, 20, 37, 80, 200):
        found = pyramid.scales(361, 533, min_face, 0.709)
        assert found[0] == pytest.approx(12 / min_face)
        assert int(361 * found[-1]) >= 12 > int(361 * found[-1] * 0.709)
    assert pyramid.scales(20, 20, 20, 0.709) == [0.6]
    assert pyramid.scales(19, 19, 20, 0.709) == []


def test_levels_agree_with_area_resizing_in_opencv():
    image = np.random.default_rng(0).uniform(-1, 1, (101, 147, 3)).astype(np.float32)
    canvas = np.zeros((pyramid.canvas_size(101), pyramid.canvas_size(147), 3), np.float32)
    canvas[:101, :147] = image
    for level in pyramid.levels(101, 147, 20, 0.709):
        height, width = int(level.height), int(level.width)
        shrunk = np.asarray(pyramid.shrink(jnp.asarray(canvas), level))[:height, :width]
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(shrunk, expected, atol=2e-4)


@pytest.mark.parametrize("size", [(40, 52), (41, 53), (40, 53), (41, 52)])
def test_proposals_do_not_depend_on_the_canvas(size):
    height, width = size
    part = {name: jnp.asarray(array) for name, array in weights.load_weights()["pnet"].items()}
    image = np.random.default_rng(1).uniform(-1, 1, (height, width, 3)).astype(np.float32)
    canvas = np.full((48, 64, 3), 100.0, np.float32)
    canvas[:height, :width] = image
    sizes = jnp.asarray(height), jnp.asarray(width)
    scores, offsets = networks.proposal_network(part, jnp.asarray(image), *sizes)
    on_canvas, canvas_offsets = networks.proposal_network(part, jnp.asarray(canvas), *sizes)
    rows, columns = scores.shape
    assert (rows, columns) == (-(-(height - 2) // 2) - 4, -(-(width - 2) // 2) - 4)
    np.testing.assert_allclose(on_canvas[:rows, :columns], scores, atol=1e-6)
    np.testing.assert_allclose(canvas_offsets[:rows, :columns], offsets, atol=1e-5)
    assert float(on_canvas[rows:].max()) == float(on_canvas[:, columns:].max()) == 0


@pytest.mark.parametrize("size", [(61, 97), (300, 41), (330, 520)])
def test_cells_of_a_mosaic_are_those_of_its_levels(size):
    """This includes levels that cross the border of a tile."""
    part = {name: jnp.asarray(array) for name, array in weights.load_weights()["pnet"].items()}
    image = np.random.default_rng(2).integers(0, 256, (*size, 3)).astype(np.uint8)
    layout = pyramid.mosaic(*size, 20, 0.709)
    plane = (pyramid.draw(image, layout) - 127.5) / 128
    side = pyramid.TILE
    outputs = []
    for (top, left), inside in zip(layout.tiles, layout.inside, strict=True):
        tile = jnp.asarray(plane[top : top + side, left : left + side])
        outputs.append(networks.proposals(part, tile, jnp.asarray(inside)))
    scores, offsets = (
        np.concatenate([np.asarray(one).reshape(-1, *one.shape[2:]) for one in parts])[
            layout.positions
        ]
        for parts in zip(*outputs, strict=True)
    )
    factors = pyramid.scales(*size, 20, 0.709)
    for number, (top, left, height, width) in enumerate(layout.places):
        level = jnp.asarray(plane[top : top + height, left : left + width])
        expected, moved = networks.proposal_network(
            part, level, jnp.asarray(height), jnp.asarray(width)
        )
        own = layout.cells.level == number
        assert own.sum() == expected.size
        row, column = layout.cells.y[own] // 2, layout.cells.x[own] // 2
        np.testing.assert_allclose(scores[own], expected[row, column], atol=1e-6)
        np.testing.assert_allclose(offsets[own], moved[row, column], atol=1e-5)
        assert (layout.cells.scale[own] == factors[number]).all()


@pytest.mark.parametrize(
    "height, width, min_face, tiles",
    [
        (120, 160, 20, 1),
        (160, 120, 20, 1),
        (240, 320, 20, 4),
        (180, 320, 20, 3),
        (360, 640, 20, 11),
    ],
)
def test_a_mosaic_needs_few_tiles(height, width, min_face, tiles):
    """For `min_face` 40, pictures are halved first; so 120 × 160 stands for one of 240 × 320."""
    assert len(pyramid.mosaic(height, width, min_face, 0.709).tiles) <= tiles


@pytest.mark.parametrize("factor", [0.3, 0.709, 0.95])
def test_levels_of_a_mosaic_do_not_overlap(factor):
    for size in ((12, 12), (60, 400), (240, 320), (720, 1280), (1364, 720)):
        layout = pyramid.mosaic(*size, 12, factor)
        covered = np.zeros(layout.shape, int)
        for top, left, height, width in layout.places:
            assert top % 2 == left % 2 == 0
            covered[top : top + height, left : left + width] += 1
        assert covered.max() == 1 and covered.sum() == sum(h * w for *_, h, w in layout.places)
        assert len(np.unique(layout.positions)) == len(layout.positions)
    assert pyramid.mosaic(19, 300, 20, 0.709) is None


def test_images_are_halved_while_the_smallest_face_keeps_twenty_pixels():
    faces = (6, 20, 39, 40, 79, 80, 200)
    assert [pyramid.halvings(face) for face in faces] == [0, 0, 0, 1, 1, 2, 3]
    image = np.random.default_rng(0).integers(0, 256, (7, 10, 3)).astype(np.uint8)
    means = image[:6].reshape(3, 2, 5, 2, 3).astype(int).sum((1, 3))
    np.testing.assert_array_equal(halve(image, 1), (means + 2) // 4)
    assert halve(image, 2).shape == (1, 2, 3) and halve(image, 3).size == 0
    assert halve(image, 0) is image


def test_patches_are_bilinear_and_zero_outside_the_image():
    first = np.zeros((20, 30, 3), np.uint8)
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None], (50, 40, 3)).copy()
    pixels = patches.join_images([first, ramp])
    box = np.array([[-20.0, 0, 60, 50]], np.float32)
    place = (pixels.start[1:], pixels.height[1:], pixels.width[1:])
    cut = np.asarray(patches.cut(pixels.values, *place, box, size=24))
    x = (-20 + np.arange(24) / 23 * 80) / 40 * 39
    inside = (x >= 0) & (x <= 39)
    np.testing.assert_allclose(cut[0, 3, inside, 0], (x[inside] - 127.5) / 128, atol=1e-4)
    assert not cut[0, :, ~inside].any()


def test_suppressed_boxes_suppress_others():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5.0], [50, 50, 60, 60]])
    scores = np.array([0.7, 0.9, 0.6, 0.8])
    # The second box suppresses the first, which still suppresses the third at 0.45.
    assert box_rules.suppress(boxes, scores, 0.45).tolist() == [1, 3]
    assert box_rules.suppress(boxes, scores, 0.52).tolist() == [1, 3]
    assert box_rules.suppress(boxes, scores, 0.6).tolist() == [1, 3, 2]
    assert box_rules.suppress(boxes, scores, 0.6, "smaller").tolist() == [1, 3]
    groups = np.array([1, 0, 0, 1])
    assert box_rules.suppress_in_groups(groups, boxes, scores, 0.6).tolist() == [1, 2, 3, 0]


def test_suppression_in_blocks_equals_suppression_at_once():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (2500, 2))
    boxes, scores = (
        np.concatenate([corner, corner + rng.uniform(5, 60, (2500, 2))], 1),
        rng.random(2500),
    )
    order = np.argsort(-scores)
    overlap = box_rules.intersection_over_union(boxes[order], boxes[order])
    expected = order[~np.triu(overlap > 0.5, 1).any(0)]
    assert box_rules.suppress(boxes, scores, 0.5).tolist() == expected.tolist()


def test_the_later_of_two_equal_scores_is_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10.0]])
    assert box_rules.suppress(boxes, np.ones(2), 0.5).tolist() == [1]


def test_boxes_become_squares_and_are_regressed():
    boxes = np.array([[0.0, 10, 20, 20]])
    assert box_rules.to_square(boxes).tolist() == [[0, 5, 20, 25]]
    moved = box_rules.regress(boxes, np.array([[0.1, 0, 0, -0.1]]))
    np.testing.assert_allclose(moved, [[2.1, 10, 20, 18.9]])
