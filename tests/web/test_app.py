"""The server of the page: its responses, its limits, and hostile files."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from fer_jax.faces.video import write_video
from fer_jax.web import app as web_app
from fer_jax.web import server
from tests.web.stand_ins import ADDRESS, Brightness, application


def client(app=None) -> TestClient:
    return TestClient(app or application(), base_url=ADDRESS, raise_server_exceptions=False)


def encoded(suffix: str, level: int = 200, size=(60, 80)) -> bytes:
    picture = np.full((*size, 3), level, np.uint8)
    picture[:, : size[1] // 2] += 20  # something to compress
    return cv2.imencode(suffix, picture)[1].tobytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    """Ten frames at 5 frames/s, all but the third with a face."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    levels = [200, 200, 0, *[100] * 7]
    write_video(path, 5.0, [np.full((64, 96, 3), level, np.uint8) for level in levels])
    return path.read_bytes()


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """A new folder that replaces the one for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def lines_of(response) -> list[dict]:
    return [json.loads(line) for line in response.text.splitlines()]


def error_of(response) -> dict:
    error = response.json()["error"]
    assert error["message"].endswith(".") and "\n" not in error["message"]
    assert "Traceback" not in response.text and "/proc" not in response.text
    return error


def test_the_response_to_a_picture_has_one_entry_per_face():
    answer = client().post("/api/picture", content=encoded(".png")).json()
    assert (answer["width"], answer["height"]) == (80, 60)
    (face,) = answer["faces"]
    assert face["box"] == [20, 15, 40, 30] and face["emotion"] == "happy"
    assert list(face["probabilities"]) == ["angry", "happy", "neutral", "sad"]
    assert sum(face["probabilities"].values()) == pytest.approx(1)
    assert client().post("/api/picture", content=encoded(".png", 235)).status_code == 200


def test_the_response_to_a_picture_without_a_face_is_empty():
    black = cv2.imencode(".png", np.zeros((60, 80, 3), np.uint8))[1].tobytes()
    assert client().post("/api/picture", content=black).json()["faces"] == []


def test_the_response_to_a_video_has_one_line_per_frame(clip, temporary):
    response = client().post("/api/video", content=clip)
    first, *frames, last = lines_of(response)
    assert first == {"expected": 10}
    assert [round(frame["time_s"], 3) for frame in frames] == [i / 5 for i in range(10)]
    assert [len(frame["faces"]) for frame in frames] == [1, 1, 0, *[1] * 7]
    assert all("person" in face for frame in frames for face in frame["faces"])
    assert all("smoothed" in face for frame in frames for face in frame["faces"])
    assert {(frame["width"], frame["height"]) for frame in frames} == {(96, 64)}
    assert last == {"frames": 10, "faces": 9, "damaged": False}
    assert not list(temporary.iterdir())


def test_the_description_of_the_model_has_what_the_page_shows():
    about = client().get("/api/model").json()
    assert about["labels"] == ["angry", "happy", "neutral", "sad"]
    assert about["model"] == "stand-in" and about["measured"] is None
    assert about["max_upload_bytes"] == 10_000_000 and about["longest_gap_s"] == 1.5


def test_the_page_is_served_and_loads_nothing_from_other_hosts():
    page = client()
    html = page.get("/").text
    for name in ("style.css", "app.js", "icon.svg"):
        assert name in html and page.get(f"/{name}").status_code == 200
    for file in web_app.PAGE.iterdir():
        text = file.read_text("utf-8")
        addresses = set(re.findall(r"""(?:https?:|(?<=["'(`]))//[^"'`)\s]+""", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file
    assert page.get("/../app.py").status_code == 404
    assert page.get("/%2e%2e/app.py").status_code == 404


def test_every_response_forbids_other_pages_to_embed_it():
    for response in (client().get("/"), client().post("/api/picture", content=b"")):
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),  # a name that was made to point here
        ({"Host": "evil.example:8765"}, 400),
        ({"Host": "localhost:8765"}, 200),
        ({"Origin": ADDRESS}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_requests_from_other_origins_are_refused(headers, status):
    response = client().post("/api/picture", content=encoded(".png"), headers=headers)
    assert response.status_code == status


HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"just some words about a face, and more of them", "not_a_picture"),
    "page": (b"<html><script>alert(1)</script></html>", "not_a_picture"),
    "short": (b"\xff\xd8\xff", "damaged"),
    "zeros": (bytes(1000), "not_a_picture"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(100), "not_read"),
    "wide": (cv2.imencode(".png", np.zeros((4000, 20000), np.uint8))[1].tobytes(), "too_large"),
    "gif": (b"GIF89a" + b"\xff" * 50, "damaged"),
    "png": (encoded(".png")[:40] + bytes(40), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_gets_an_error_and_the_server_continues(name):
    content, code = HOSTILE[name]
    page = client()
    response = page.post("/api/picture", content=content)
    assert response.status_code in (413, 415) and error_of(response)["code"] == code
    assert page.post("/api/picture", content=encoded(".png")).status_code == 200


@pytest.mark.parametrize("name", ["empty", "text", "page", "zeros", "heic"])
def test_a_hostile_video_gets_an_error_and_the_server_continues(name, clip, temporary):
    content, _ = HOSTILE[name]
    page = client()
    error = error_of(page.post("/api/video", content=content))
    known = {"empty": "empty", "heic": "is_a_picture"}
    assert error["code"] == known.get(name, "not_a_video")
    assert page.post("/api/video", content=clip).status_code == 200
    assert not list(temporary.iterdir())


def test_a_picture_of_20000_pixels_is_read():
    wide = cv2.imencode(".jpg", np.full((50, 20000, 3), 90, np.uint8))[1].tobytes()
    assert client().post("/api/picture", content=wide).json()["width"] == 20000


def test_a_picture_that_is_also_a_valid_file_of_another_kind_is_read_as_a_picture():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("page.html", "<script>alert(1)</script>")
    for tail in (b"<html><script>alert(1)</script></html>", archive.getvalue()):
        response = client().post("/api/picture", content=encoded(".jpg") + tail)
        assert len(response.json()["faces"]) == 1
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_truncated_picture_is_damaged(suffix):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    content = cv2.imencode(suffix, noise)[1].tobytes()
    response = client().post("/api/picture", content=content[: len(content) // 2])
    assert response.status_code == 415 and error_of(response)["code"] == "damaged"


def test_the_type_of_a_file_is_determined_by_its_content(clip):
    assert error_of(client().post("/api/picture", content=clip))["code"] == "not_a_picture"
    assert error_of(client().post("/api/video", content=encoded(".jpg")))["code"] == "is_a_picture"


def test_the_response_to_a_truncated_video_says_so(clip):
    *_, last = lines_of(client().post("/api/video", content=clip[: len(clip) * 9 // 10]))
    assert "error" in last or last["damaged"]


@pytest.mark.parametrize("every_s", [0.0, 0.2])
def test_a_video_that_is_too_long_is_refused_before_it_is_read(every_s, clip):
    recogniser = Brightness()
    app = application(recogniser, every_s=every_s, video_s=1.0)
    error = error_of(client(app).post("/api/video", content=clip))
    assert error["code"] == "too_long" and not recogniser.calls
    assert "--max_video_s" in error["message"] and error["facts"]["minutes"] > 0


def test_a_video_without_a_stated_length_is_read_up_to_the_limit(clip, monkeypatch):
    monkeypatch.setattr(web_app.answers, "stated_length_s", lambda path: None)
    app = application(every_s=0.0, video_s=1.0)
    *frames, last = lines_of(client(app).post("/api/video", content=clip))
    assert last["error"]["code"] == "too_long" and 5 <= len(frames) <= 7


def test_a_file_with_a_stated_size_above_the_limit_is_not_received():
    app = application(upload_bytes=1000)
    page = client(app)
    for address in ("/api/picture", "/api/video"):
        headers = {"Content-Length": str(2 * 10**9)}
        response = page.post(address, content=b"x", headers=headers)
        assert response.status_code == 413
        error = error_of(response)
        assert error["code"] == "upload_too_large" and "--max_upload_mb" in error["message"]


def test_a_file_without_a_stated_size_is_received_up_to_the_limit():
    sent = []

    def endless():
        for _ in range(2000):
            sent.append(1)
            yield encoded(".png")[:50] + bytes(950)

    response = client(application(upload_bytes=10_000)).post("/api/picture", content=endless())
    assert response.status_code == 413 and error_of(response)["code"] == "upload_too_large"


def test_one_file_is_analysed_at_a_time_and_few_may_wait():
    recogniser = Brightness()
    recogniser.go_on.clear()
    with client(application(recogniser, waiting=1, patience_s=20.0)) as page:
        answers: list[int] = []

        def ask():
            answers.append(page.post("/api/picture", content=encoded(".png")).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        response = page.post("/api/picture", content=b"")
        while (response.status_code, recogniser.calls) != (503, 1) and time.monotonic() < deadline:
            response = page.post("/api/picture", content=b"")
        assert error_of(response)["code"] == "busy" and recogniser.calls == 1
        recogniser.go_on.set()
        for thread in threads:
            thread.join()
        assert answers == [200, 200]


def test_a_request_that_waits_too_long_gets_an_error():
    recogniser = Brightness()
    recogniser.go_on.clear()
    with client(application(recogniser, patience_s=0.2)) as page:
        content = encoded(".png")
        first = threading.Thread(target=lambda: page.post("/api/picture", content=content))
        first.start()
        while not recogniser.calls:
            time.sleep(0.01)
        assert error_of(page.post("/api/picture", content=content))["code"] == "busy"
        recogniser.go_on.set()
        first.join()


def test_an_unexpected_error_is_reported_without_its_message(monkeypatch, capsys):
    def breaks(self, pictures):
        raise RuntimeError("secret of a picture")

    monkeypatch.setattr(Brightness, "__call__", breaks)
    page = client()
    response = page.post("/api/picture", content=encoded(".png"))
    assert response.status_code == 500 and error_of(response)["code"] == "failed"
    assert "secret" not in response.text
    monkeypatch.setattr(web_app.answers, "picture", breaks)
    response = page.post("/api/picture", content=encoded(".png"))
    assert response.status_code == 500 and error_of(response)["code"] == "failed"
    reported = capsys.readouterr()
    assert "RuntimeError" in reported.err and "secret" not in reported.out + reported.err


def test_on_systems_other_than_linux_a_video_is_deleted_afterwards(clip, temporary, monkeypatch):
    monkeypatch.setattr(web_app, "_OPEN_FILES", Path("/nowhere"))
    assert lines_of(client().post("/api/video", content=clip))[-1]["frames"] == 10
    assert client().post("/api/video", content=b"words" * 100).status_code == 415
    assert not list(temporary.iterdir())


class Running:
    """A server in a thread, for use in a `with` block."""

    def __init__(self, app) -> None:
        self.listener = server.listen(0)
        self.port = self.listener.getsockname()[1]
        self.server = server.make_server(app)
        self.thread = threading.Thread(
            target=lambda: self.server.run(sockets=[self.listener]), daemon=True
        )

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(20)

    def connection(self, address, size) -> socket.socket:
        """A connection on which the head of a request with a body of `size` bytes was sent."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        head = f"POST {address} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        made.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
        return made


def open_videos() -> int:
    """The number of deleted temporary files that this process still has open."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except OSError:
            continue
    return sum(link.endswith("(deleted)") and "temporary" in link for link in links)


def waited_for(condition) -> bool:
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_a_disconnected_client_leaves_no_file_and_does_not_affect_others(clip, temporary):
    recogniser = Brightness()
    with Running(application(recogniser)) as running:
        half = running.connection("/api/video", len(clip))
        half.sendall(clip[:500])
        assert waited_for(lambda: open_videos() == 1)
        assert not list(temporary.iterdir())  # it has no name, even while it is received
        half.close()
        assert waited_for(lambda: open_videos() == 0)

        recogniser.go_on.clear()
        gone = running.connection("/api/video", len(clip))
        gone.sendall(clip)
        assert waited_for(lambda: recogniser.calls > 0)
        gone.close()
        recogniser.go_on.set()
        assert waited_for(lambda: open_videos() == 0)
        assert not list(temporary.iterdir())

        last = running.connection("/api/picture", len(encoded(".png")))
        last.sendall(encoded(".png"))
        assert last.recv(100).startswith(b"HTTP/1.1 200")
        last.close()


def test_a_client_that_stops_reading_does_not_keep_others_waiting(clip, monkeypatch):
    ended, real = threading.Event(), web_app.answers.video

    def endless(*_, **__):
        try:
            while True:
                yield {"frame": "x" * 1_000_000}
        finally:
            ended.set()

    with Running(application(patience_s=0.5)) as running:
        monkeypatch.setattr(web_app.answers, "video", endless)
        stopped = running.connection("/api/video", len(clip))
        stopped.sendall(clip)
        assert stopped.recv(20).startswith(b"HTTP/1.1 200")  # reads no more than this
        assert waited_for(ended.is_set)
        monkeypatch.setattr(web_app.answers, "video", real)
        other = running.connection("/api/video", len(clip))
        other.sendall(clip)
        assert other.recv(20).startswith(b"HTTP/1.1 200")
        for connection in (stopped, other):
            connection.close()


def test_a_client_that_sends_nothing_is_disconnected():
    with Running(application(patience_s=0.3)) as running:
        silent = running.connection("/api/picture", 100)
        assert silent.recv(100).startswith(b"HTTP/1.1 408")
        silent.close()


def test_the_server_can_be_reached_only_from_this_computer():
    with server.listen(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1" and server.address(listener) == f"http://127.0.0.1:{port}/"
