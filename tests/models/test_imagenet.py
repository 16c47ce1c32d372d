"""The download is complete, verified and resumable, and errors say what to do."""

import functools
import hashlib
import http.server
import importlib.util
import multiprocessing
import sys
import threading

import numpy as np
import pytest

from fer_jax import console, locking
from fer_jax.errors import UserError
from fer_jax.models import imagenet

CONTENT = np.random.default_rng(0).bytes(3_000_000)
NAME = "weights_notop.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; cuts off the next answers, or ignores `Range`, as its server demands.

    `server.breaks` is the number of answers to cut off; if `server.ranges` is false, `Range` is
    ignored.
    """

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        first = int(self.headers["Range"].split("=")[1].rstrip("-")) if server.ranges else 0
        if self.path != f"/{NAME}":
            self.send_error(404, "nothing here")
            return
        self.send_response(206 if server.ranges else 200)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.end_headers()
        last = len(CONTENT)
        if server.breaks:
            server.breaks -= 1
            last = first + 1_000_000
        self.wfile.write(CONTENT[first:last])

    def log_message(self, *arguments):
        """Suppresses the log."""


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.breaks, server.ranges = [], 0, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FER_JAX_IMAGENET", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path / "cache" / "weights"


def published(server, **changes):
    return imagenet.Published(
        url=f"http://127.0.0.1:{server.server_port}/{NAME}",
        size=len(CONTENT),
        md5=hashlib.md5(CONTENT).hexdigest(),
    )._replace(**changes)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_downloaded_once(server, cache, capsys, monkeypatch):
    monkeypatch.setattr(console, "_is_watched", lambda: True)
    path = imagenet.find_or_download(published(server))
    assert path == cache / NAME and path.read_bytes() == CONTENT
    assert f"downloading {imagenet.NAME}" in capsys.readouterr().err
    assert imagenet.find_or_download(published(server)) == path
    assert server.asked == ["bytes=0-"]
    assert names(cache) == [NAME]


def test_an_interrupted_download_is_resumed(server, cache):
    server.breaks = 2
    for there in (1_000_000, 2_000_000):
        with pytest.raises(UserError, match="cannot download the ImageNet weights"):
            imagenet.find_or_download(published(server))
        assert names(cache) == [f".{NAME}.partial"]
        assert (cache / f".{NAME}.partial").stat().st_size == there
    assert imagenet.find_or_download(published(server)).read_bytes() == CONTENT
    assert server.asked == ["bytes=0-", "bytes=1000000-", "bytes=2000000-"]
    assert names(cache) == [NAME]


def test_the_download_restarts_if_the_server_ignores_ranges(server, cache):
    server.ranges, server.breaks = False, 1
    with pytest.raises(UserError, match="cannot download"):
        imagenet.find_or_download(published(server))
    assert imagenet.find_or_download(published(server)).read_bytes() == CONTENT


@pytest.mark.parametrize("changes", [{"md5": "0" * 32}, {"size": len(CONTENT) - 1}])
def test_another_file_is_refused_and_deleted(changes, server, cache):
    with pytest.raises(UserError, match=f"is not the published {NAME}.*it was deleted"):
        imagenet.find_or_download(published(server, **changes))
    assert names(cache) == []


def test_a_modified_file_in_the_cache_is_refused(server, cache):
    path = imagenet.find_or_download(published(server))
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match="delete it to download it again"):
        imagenet.find_or_download(published(server))
    assert path.exists()


def test_without_internet_the_error_says_what_to_download_and_where_to_put_it(server, cache):
    server.shutdown()
    server.server_close()
    wanted = published(server)
    with pytest.raises(UserError) as error:
        imagenet.find_or_download(wanted)
    message = str(error.value)
    assert "refused" in message and "\n" not in message
    for reported in (
        wanted.url,
        wanted.md5,
        str(wanted.size),
        str(cache / NAME),
        "FER_JAX_IMAGENET",
    ):
        assert reported in message
    assert names(cache) == []


def test_a_missing_file_on_the_server_is_a_user_error(server, cache):
    gone = published(server)._replace(url=f"http://127.0.0.1:{server.server_port}/gone.h5")
    with pytest.raises(UserError, match=r"cannot download the ImageNet weights \(.*nothing here"):
        imagenet.find_or_download(gone)


def test_an_environment_variable_may_name_the_file(server, cache, tmp_path, monkeypatch):
    own = tmp_path / "own.h5"
    monkeypatch.setenv("FER_JAX_IMAGENET", str(own))
    with pytest.raises(UserError, match=f"there is no file {own}.*{NAME}"):
        imagenet.find_or_download(published(server))
    own.write_bytes(CONTENT[:99])
    with pytest.raises(UserError, match=r"99 bytes.*set FER_JAX_IMAGENET to the published file"):
        imagenet.find_or_download(published(server))
    own.write_bytes(CONTENT)
    assert imagenet.find_or_download(published(server)) == own
    assert server.asked == [] and not cache.exists()


def test_concurrent_processes_download_once(server, cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = pool.map(imagenet.find_or_download, [published(server)] * 2, chunksize=1)
    assert set(paths) == {cache / NAME}
    assert paths[0].read_bytes() == CONTENT and names(cache) == [NAME]
    assert server.asked == ["bytes=0-"]


def test_the_cache_is_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("FER_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert imagenet.cache_folder() == tmp_path / "fer_jax" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert imagenet.cache_folder() == tmp_path / ".cache" / "fer_jax" / "weights"


def test_file_digest_agrees_with_known_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    digest = functools.partial(imagenet.file_digest, tmp_path / "a")
    assert digest("md5") == "900150983cd24fb0d6963f7d28e17f72"
    assert digest("sha256").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_the_download_works_without_fcntl(server, cache, monkeypatch):
    """Windows has no `fcntl`; there, the download works without locks."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    for module in (locking, imagenet):
        file = importlib.util.spec_from_file_location(module.__name__, module.__file__)
        loaded = importlib.util.module_from_spec(file)
        monkeypatch.setitem(sys.modules, module.__name__, loaded)
        file.loader.exec_module(loaded)
    path = loaded.find_or_download(published(server))
    assert path.read_bytes() == CONTENT and names(cache) == [NAME]
