import av
import numpy as np
import pytest

from fer_jax.people import EMOTIONS, clip_frames
from fer_jax.people.pictures import _drift, _entrance, _perform
from fer_jax.people.scenes import scene_frames
from fer_jax.stages.render import write_clip, write_scene

SIZE = (96, 128)


def performances(emotion, count=40):
    return [
        _perform(emotion, 12, 6, (240, 320), np.random.default_rng(seed)) for seed in range(count)
    ]


def test_clips_are_reproducible():
    first = list(clip_frames(3, "happy", 1, frames=4, size=SIZE))
    again = list(clip_frames(3, "happy", 1, frames=4, size=SIZE))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 4 and first[0].shape == (*SIZE, 3)


def test_the_emotion_grows_during_a_clip():
    for emotion, unit in {"happy": "lip_corner_puller", "angry": "brow_lowerer"}.items():
        curves = np.array([[getattr(u, unit) for _, u in shown] for shown in performances(emotion)])
        assert curves[:, 0].mean() < 0.45
        assert curves[:, -1].mean() > 0.6
        assert curves[:, -1].std() > 0.1  # the strength varies


def test_people_blink_and_talk_and_look_around():
    shown = [p for emotion in EMOTIONS for p in performances(emotion)]
    blinks = np.array([[u.blink > 0.5 for _, u in p] for p in shown])
    assert 0.02 < blinks.mean() < 0.09
    talking = np.mean([max(u.jaw_drop for _, u in p) > 0.05 for p in shown])
    assert 0.3 < talking < 0.7
    assert 0.1 < np.std([[v.yaw for v, _ in p] for p in shown]) < 0.2


def test_a_few_people_enter_late():
    shown = [p for emotion in EMOTIONS for p in performances(emotion)]
    late = [abs(p[0][0].centre[0] - 160) > 200 for p in shown]
    assert 0.02 < np.mean(late) < 0.16
    assert all(100 < p[-1][0].centre[0] < 220 for p in shown)
    assert _entrance(12)[0] == pytest.approx(1.1) and _entrance(12)[-1] == 0


def test_drift_is_smooth():
    walk = _drift(np.random.default_rng(0), 500, 0.2, 6.0)
    assert walk.shape == (500,) and 0.12 < walk.std() < 0.3
    assert np.abs(np.diff(walk)).max() < 0.15


@pytest.mark.parametrize("scene", [False, True])
def test_written_clips_are_h264_with_the_requested_size(tmp_path, scene):
    path = tmp_path / "clip.mp4"
    if scene:
        write_scene(path, 0, frames=5, fps=6, size=SIZE)
    else:
        write_clip(path, 101, "sad", 0, frames=5, fps=6, size=SIZE)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
    assert stream.codec_context.name == "h264" and (stream.height, stream.width) == SIZE
    assert [float(frame.time) for frame in frames] == pytest.approx([i / 6 for i in range(5)])
    expected = scene_frames(0, 5, SIZE) if scene else clip_frames(101, "sad", 0, 5, 6, SIZE)
    for frame, drawn in zip(frames, expected, strict=True):
        assert np.abs(frame.to_ndarray(format="rgb24").astype(float) - drawn).mean() < 8


def test_written_clips_have_the_same_bytes_each_time(tmp_path):
    """This is not the case with x264's macroblock tree, which is therefore switched off."""
    written = set()
    for trial in range(8):
        path = tmp_path / f"{trial}.mp4"
        write_clip(path, 101, "angry", 0, 12, 6, (120, 160))
        written.add(path.read_bytes())
    assert len(written) == 1


def test_scenes_pan():
    first, *_, last = scene_frames(4, 6, SIZE)
    assert np.abs(first.astype(float) - last).mean() > 5
