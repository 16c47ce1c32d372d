"""Only regular files are opened, since reading a named pipe could block forever."""

import errno
import os
import socket

import pytest

from fer_jax.data.sources import read_images
from fer_jax.errors import UserError
from fer_jax.faces import images
from fer_jax.faces.video import sample_frames
from fer_jax.files import absolute, check_regular, read_file
from fer_jax.models import weight_files


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.png", images.read_image),
        ("a.png", images.read_encoded),
        ("a.png", lambda path: read_images([path], 8)),
        ("a.mp4", lambda path: next(sample_frames(path, 1.0))),
        ("a.h5", weight_files.read),
        ("a.safetensors", weight_files.read),
    ],
    ids=["read_image", "read_encoded", "read_images", "sample_frames", "h5", "safetensors"],
)
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.timeout(20)
def test_a_named_pipe_is_refused(name, read, linked, tmp_path):
    os.mkfifo(tmp_path / name)
    if linked:
        (tmp_path / f"link.{name}").symlink_to(tmp_path / name)
        name = f"link.{name}"
    with pytest.raises(UserError, match=f"{name}.*named pipe"):
        read(tmp_path / name)


@pytest.mark.timeout(20)
def test_a_named_pipe_among_photographs_is_a_fault(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert images.fault(tmp_path / "a.png") == "it is a named pipe, not a file"


def test_the_error_says_what_the_file_is_instead_of_a_regular_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths of sockets must be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket")
        for path, kind in (("socket", "a socket"), (".", "a folder"), ("/dev/zero", "a device")):
            with pytest.raises(OSError, match=kind):
                check_regular(path)
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link", most=3) == b"abc"
    with pytest.raises(OSError, match="more than the limit of 2") as caught:
        read_file(tmp_path / "file", most=2)
    assert caught.value.errno == errno.EFBIG


def test_an_absolute_path_is_that_of_the_same_folder_for_the_system(tmp_path, monkeypatch):
    (tmp_path / "far" / "folder").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "folder")
    monkeypatch.chdir(tmp_path / "near")
    assert absolute("a/b") == tmp_path / "near" / "a" / "b"
    assert absolute("../a") == tmp_path / "a"
    assert absolute("link") == tmp_path / "near" / "link"  # a link is a file of its own
    assert absolute("link/../a") == tmp_path / "far" / "a"
    assert absolute("link/..") == tmp_path / "far"
