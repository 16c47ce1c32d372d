"""`fer-jax serve` with the starter, and its page in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import predict as predict_config
from configs import serve as serve_config
from fer_jax.errors import UserError
from fer_jax.faces.drawing import write_image
from fer_jax.faces.video import write_video
from fer_jax.people import clip_frames, photograph
from fer_jax.recogniser import Recogniser
from fer_jax.stages import predict, serve
from tests.web.browser import CHROMIUM, Browser

ROOT = Path(__file__).parents[2]
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
PERSIAN = ("خشمگین", "منزجر", "ترسیده", "شاد", "خنثی", "غمگین", "شگفت‌زده")
ENGLISH = ("angry", "disgusted", "afraid", "happy", "neutral", "sad", "surprised")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")


class Served(NamedTuple):
    """The address and the process of a running `serve`."""

    address: str
    process: subprocess.Popen[str]


def start(folder: Path, *flags: str) -> Served:
    process = subprocess.Popen(
        [sys.executable, "launch.py", "--config=configs/serve.py", "--config.port=0", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"open (http://127\.0\.0\.1:\d+/)", line):
            return Served(found[1], process)
    raise AssertionError("".join(said))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    running = start(tmp_path_factory.mktemp("temporary"), "--config.max_upload_mb=3")
    yield running
    running.process.kill()
    running.process.wait()
    running.process.stdout.close()


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A picture of two generated people, a video, and hostile files."""
    folder = tmp_path_factory.mktemp("media")
    two = [photograph(3, "happy", 0, (360, 320)), photograph(12, "neutral", 0, (360, 320))]
    write_image(folder / "two.jpg", np.concatenate(two, axis=1))
    frames = list(clip_frames(103, "happy", 0, 12, 6, (240, 320)))
    write_video(folder / "clip.mp4", 6.0, frames)
    content = (folder / "two.jpg").read_bytes()
    (folder / "picture.mp4").write_bytes(content)
    (folder / "video.jpg").write_bytes((folder / "clip.mp4").read_bytes())
    (folder / "both.jpg").write_bytes(content + b"<html><script>alert(1)</script></html>")
    (folder / "words.jpg").write_text("about a face")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "large.mp4").write_bytes(bytes(3_000_001))
    wide = cv2.imencode(".png", np.zeros((4000, 20000), np.uint8))[1]
    (folder / "wide.png").write_bytes(wide.tobytes())
    return folder


@pytest.fixture(scope="module")
def predicted(media, tmp_path_factory) -> dict[str, pd.DataFrame]:
    """The predictions of `predict` for the picture and the video."""
    folder = tmp_path_factory.mktemp("predicted")
    tables = {}
    for name in ("two.jpg", "clip.mp4"):
        config = predict_config.get_config()
        config.update({"input": str(media / name), "annotate": False})
        predict.run(config, folder / name)
        tables[name] = pd.read_parquet(folder / name / "predictions.parquet")
    return tables


def post(address: str, file: Path) -> list[dict]:
    """Sends a file; returns the lines of the answer."""
    request = urllib.request.Request(address, data=file.read_bytes())
    with urllib.request.urlopen(request, timeout=120) as response:
        return [json.loads(line) for line in response.read().splitlines()]


def check_equal(faces: list[dict], table: pd.DataFrame) -> None:
    """Checks that the faces of the server equal the rows of `predict`."""
    assert len(faces) == len(table) > 0
    for face, (_, row) in zip(faces, table.iterrows(), strict=True):
        assert face["emotion"] == row["emotion"]
        assert tuple(face["probabilities"]) == LABELS
        for label, value in face["probabilities"].items():
            assert value == pytest.approx(row[f"prob_{label}"], abs=1e-6)
        if "smoothed" in face:
            assert face["person"] == row["person"]
            for label, value in face["smoothed"].items():
                assert value == pytest.approx(row[f"smoothed_prob_{label}"], abs=1e-6)
        assert face["box"] == pytest.approx(row[["x0", "y0", "x1", "y1"]].tolist(), abs=1e-3)
        assert face["score"] == pytest.approx(row["detector_score"], abs=1e-6)


def test_the_server_gives_the_answers_of_predict(served, media, predicted):
    (answer,) = post(f"{served.address}api/picture", media / "two.jpg")
    check_equal(answer["faces"], predicted["two.jpg"])
    _, *frames, last = post(f"{served.address}api/video", media / "clip.mp4")
    table = predicted["clip.mp4"]
    assert [frame["frame"] for frame in frames] == sorted(set(table["frame"]))
    check_equal([face for frame in frames for face in frame["faces"]], table)
    assert all("smoothed" in face for frame in frames for face in frame["faces"])
    assert last["frames"] == len(frames) and not last["damaged"]


def test_errors_of_serve_are_one_line(monkeypatch):
    def config(**fields):
        made = serve_config.get_config()
        made.update(fields)
        return made

    with pytest.raises(UserError, match=r"no model in nowhere"):
        serve.run(config(model="nowhere"))
    with pytest.raises(UserError, match=r"--config\.port=70000 must be less than"):
        serve.run(config(port=70_000))
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "fer_jax.web.app", raising=False)
    monkeypatch.delattr("fer_jax.web.app", raising=False)
    monkeypatch.setattr(Recogniser, "load", lambda *_, **__: pytest.fail("the model is loaded"))
    with pytest.raises(
        UserError, match=r"package starlette\S* is missing; .* pip install '\.\[serve\]'"
    ) as reported:
        serve.run(config())
    assert "\n" not in str(reported.value)


@needs_browser
class TestPage:
    """The page shows the answers of the server, and requests nothing from other hosts."""

    @pytest.fixture(scope="class")
    def browser(self, tmp_path_factory, media):
        face = photograph(3, "happy", 0, (480, 640))[..., ::-1]
        camera = tmp_path_factory.mktemp("camera") / "face.mjpeg"
        camera.write_bytes(cv2.imencode(".jpg", face)[1].tobytes() * 2)
        flag = f"--use-file-for-fake-video-capture={camera}"
        with Browser(tmp_path_factory.mktemp("profile"), flag) as opened:
            yield opened

    @pytest.fixture
    def page(self, browser, served):
        """A function that opens the page in a language and waits until it answers to a file.

        Afterwards, checks that the page requested nothing from other hosts.
        """
        browser.complaints.clear()
        browser.requests.clear()

        def opened(file: Path | None, language: str = "en", width: int = 1280) -> Browser:
            browser.open(f"{served.address}?lang={language}", width)
            if file is not None:
                browser.choose(file)
                browser.until(
                    "document.getElementById('working').hidden && !(document.getElementById"
                    "('result').hidden && document.getElementById('trouble').hidden)"
                )
            return browser

        yield opened
        ours = (served.address, f"blob:{served.address}", "data:")
        strangers = [address for address in browser.requests if not address.startswith(ours)]
        assert strangers == []

    @pytest.mark.parametrize(
        ("language", "names", "direction"), [("en", ENGLISH, "ltr"), ("fa", PERSIAN, "rtl")]
    )
    def test_the_page_shows_the_answer_of_predict_for_a_picture(
        self, page, media, predicted, language, names, direction
    ):
        shown = page(media / "two.jpg", language)
        table = predicted["two.jpg"].sort_values("x0")
        root = "document.documentElement"
        assert shown.value(f"[{root}.lang, {root}.dir]") == [language, direction]
        cards = shown.value(
            "[...document.querySelectorAll('.card')].map(card => ({"
            " what: card.querySelector('.what').textContent,"
            " bars: [...card.querySelectorAll('.bar')].map(bar => [...bar.querySelectorAll("
            "'.bar-name, .bar-value')].map(part => part.textContent))}))"
        )
        assert len(cards) == len(table) == 2
        for card, (_, row) in zip(cards, table.iterrows(), strict=True):
            assert [name for name, _ in card["bars"]] == list(names)
            values = [number_of(value) for _, value in card["bars"]]
            expected = [100 * row[f"prob_{label}"] for label in LABELS]
            assert values == pytest.approx(expected, abs=0.501)
            name = names[LABELS.index(row["emotion"])]
            sure = row[f"prob_{row['emotion']}"] >= 0.5
            assert card["what"] == (name if sure else {"en": "not sure", "fa": "نامطمئن"}[language])
        boxes = shown.value(
            "[...document.querySelectorAll('.box')].map(box => [parseFloat(box.style.left),"
            " parseFloat(box.style.top)])"
        )
        expected = [[100 * row["x0"] / 640, 100 * row["y0"] / 360] for _, row in table.iterrows()]
        assert np.array(boxes) == pytest.approx(np.array(expected), abs=0.01)
        assert shown.complaints == []

    def test_answers_below_the_threshold_are_withheld(self, page, media):
        shown = page(media / "two.jpg")
        shown.value(
            "(slider => { slider.value = 95; slider.dispatchEvent(new Event('input')) })"
            "(document.getElementById('threshold'))"
        )
        whats = "[...document.querySelectorAll('.what')].map(what => what.textContent)"
        assert set(shown.value(whats)) == {"not sure"}
        shown.value(
            "(slider => { slider.value = 0; slider.dispatchEvent(new Event('input')) })"
            "(document.getElementById('threshold'))"
        )
        assert "not sure" not in shown.value(whats)

    def test_the_language_and_the_theme_can_be_switched(self, page, media):
        shown = page(media / "two.jpg")
        shown.click("#language")
        assert shown.value("document.documentElement.dir") == "rtl"
        assert shown.value("document.getElementById('result-title').textContent") == "۲ چهره"
        assert shown.value("location.search") == "?lang=fa"
        ground = "getComputedStyle(document.body).backgroundColor"
        light = shown.value(ground)
        shown.click("#theme")
        assert shown.value(ground) != light
        assert shown.complaints == []

    @pytest.mark.parametrize(("language", "width"), [("en", 1280), ("fa", 390)])
    def test_the_timeline_of_a_video_is_operated_by_the_keyboard(
        self, page, media, predicted, language, width
    ):
        shown = page(media / "clip.mp4", language, width)
        assert shown.value("document.querySelectorAll('.lane').length") == 1
        shown.value("document.getElementById('lanes').focus()")
        for key in ("Home", "ArrowRight", "ArrowRight"):
            shown.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        moment = "document.getElementById('lanes').getAttribute('aria-valuenow')"
        assert shown.value(moment) == "2"
        time_s = sorted(set(predicted["clip.mp4"]["time_s"]))[2]
        shown.until(f"Math.abs(document.getElementById('video').currentTime - {time_s}) < 0.05")
        assert shown.value(moment) == "2"
        assert shown.complaints == []
        assert shown.value("document.documentElement.scrollWidth <= innerWidth")

    @pytest.mark.parametrize("language", ["en", "fa"])
    @pytest.mark.parametrize("width", [1280, 390])
    def test_nothing_is_wider_than_the_window(self, page, media, language, width):
        for file in (None, media / "two.jpg"):
            shown = page(file, language, width)
            assert shown.value("document.documentElement.scrollWidth <= innerWidth")

    def test_the_page_can_show_the_unsmoothed_probabilities_of_a_video(
        self, page, media, predicted
    ):
        shown = page(media / "clip.mp4")
        first = predicted["clip.mp4"].iloc[0]
        values = "[...document.querySelectorAll('.bar-value')].map(value => value.textContent)"
        for prefix in ("smoothed_prob", "prob"):
            expected = [100 * first[f"{prefix}_{label}"] for label in LABELS]
            shown_values = [number_of(value) for value in shown.value(values)]
            assert shown_values == pytest.approx(expected, abs=0.501)
            shown.click("#smooth")

    def test_the_camera_is_read_until_it_is_stopped(self, page):
        shown = page(None)
        shown.click("#camera")
        shown.until("document.querySelectorAll('.card').length === 1")
        assert shown.value("document.querySelector('.what').textContent") == "happy"
        assert shown.value("document.querySelector('.who').textContent") == "Person 1"
        shown.click("#again")
        assert shown.value("document.getElementById('video').srcObject === null")
        assert shown.value("!document.getElementById('start').hidden")
        assert shown.complaints == []

    def test_people_in_front_of_the_camera_keep_their_numbers(self, page):
        shown = page(None)
        made = "import('./followed.js').then(({ People }) => { window.people = new People(1.5); })"
        shown.value(f"void {made}")
        shown.until("window.people !== undefined")

        def numbers(time_s, *left):
            faces = json.dumps([{"box": [x, 0, x + 100, 100]} for x in left])
            one = f"window.people.numbered({faces}, {time_s}).map(({{ person }}) => person)"
            return json.loads(shown.value(f"JSON.stringify({one})"))

        assert numbers(0.0, 0, 300) == [1, 2]
        assert numbers(0.5, 320, 30) == [2, 1]
        assert numbers(1.0, 60) == [1]
        assert numbers(1.5, 330, 70, 600) == [2, 1, 3]
        assert numbers(4.0, 330) == [4]  # away for too long

    @pytest.mark.parametrize(
        ("name", "english", "persian"),
        [
            ("words.jpg", "neither a picture nor a video", "نه عکس است و نه ویدئو"),
            ("empty.jpg", "The file is empty", "فایل خالی است"),
            ("cut.jpg", "is damaged", "آسیب دیده"),
            ("large.mp4", "larger than 3 MB", "۳ مگابایت"),
            ("wide.png", "20000 x 4000 pixels", "میلیون پیکسل"),
        ],
    )
    def test_the_page_shows_an_error_for_a_hostile_file(self, page, media, name, english, persian):
        for language, message in (("en", english), ("fa", persian)):
            shown = page(media / name, language)
            reported = shown.value("document.getElementById('trouble').textContent")
            assert message in reported and "Traceback" not in reported
            assert shown.value("document.activeElement.id") == "trouble"
        assert page(media / "two.jpg").value("document.querySelectorAll('.card').length") == 2

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("video.jpg", "video"), ("picture.mp4", "picture"), ("both.jpg", "picture")],
    )
    def test_the_type_of_a_file_is_determined_by_its_content(self, page, media, name, kind):
        shown = page(media / name)
        assert shown.value("document.body.dataset.kind") == kind
        assert shown.value("document.querySelectorAll('.card').length") >= 1


def number_of(text: str) -> int:
    """The number in a percentage, in Latin or Persian digits."""
    return int("".join(str(int(letter)) for letter in text if letter.isdigit()))


def test_ctrl_c_ends_the_server(tmp_path):
    """This test is last, since it starts another server."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    running = start(folder)
    with urllib.request.urlopen(running.address, timeout=30) as response:
        assert b"fer_jax" in response.read()
    running.process.send_signal(signal.SIGINT)
    rest, _ = running.process.communicate(timeout=60)
    assert running.process.returncode == 0 and rest == "[serve] stopped\n"
    assert not list(folder.iterdir())
    assert not (ROOT / "work/serve").exists()
