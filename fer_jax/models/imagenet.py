"""The ImageNet weights published by keras.applications, which are downloaded once.

Keras publishes the MD5 of the file but no SHA-256, so size and MD5 are checked here; the SHA-256 of
the file is recorded in the `model.json` of each model that starts from it. The MD5 is in keras
3.15, src/applications/inception_resnet_v2.py, and has been the same since 2017. The top-1 accuracy
on ImageNet is 80.3 % (keras.io/api/applications).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path
from typing import NamedTuple

from fer_jax import console
from fer_jax.errors import UserError
from fer_jax.locking import turn_in

NAME = "imagenet"  # the value of `config.init` that selects the file
CHUNK = 1 << 20
TIMEOUT_S = 30.0


class Published(NamedTuple):
    """A published file: its URL, its size in bytes and its MD5."""

    url: str
    size: int
    md5: str

    @property
    def name(self) -> str:
        """The file name, which is the last part of the URL."""
        return self.url.rsplit("/", 1)[-1]


NOTOP = Published(
    url="https://storage.googleapis.com/tensorflow/keras-applications/inception_resnet_v2/"
    "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    size=219_055_592,
    md5="d19885ff4a710c122648d3b5c3b684e4",
)


def find_or_download(published: Published) -> Path:
    """The path of a published file: $FER_JAX_IMAGENET if it is set, else a file in the cache.

    A file that is missing in the cache is downloaded. An interrupted download continues where it
    stopped, if the server supports this. Concurrent processes download the file only once
    if the operating system has file locks (see `fer_jax.locking`).

    Raises:
        UserError: the file in $FER_JAX_IMAGENET is missing, or the file differs from the published
            one or cannot be downloaded.
    """
    given = os.environ.get("FER_JAX_IMAGENET")
    if given:
        return _check(Path(given), published, "set FER_JAX_IMAGENET to the published file")
    target = cache_folder() / published.name
    if not target.exists():
        _download(published, target)
    return _check(target, published, "delete it to download it again")


def cache_folder() -> Path:
    """$FER_JAX_CACHE/weights if it is set, else fer_jax/weights in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("FER_JAX_CACHE")
    if own:
        return Path(own) / "weights"
    xdg = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(xdg) / "fer_jax" / "weights"


def _download(published: Published, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with turn_in(target.parent):
            if target.exists():  # another process has downloaded it
                return
            _fetch(published, partial)
            try:
                _check(partial, published, f"it was deleted; check what {published.url} returns")
            except UserError:
                partial.unlink()
                raise
            partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"cannot download the ImageNet weights ({reason}); download {published.url} on a "
            f"machine with internet access ({published.size} bytes, MD5 {published.md5}), and copy "
            f"it to {target}, or set FER_JAX_IMAGENET to its path"
        ) from error


def _fetch(published: Published, partial: Path) -> None:
    """Downloads the part of the file that is missing in `partial`, and appends it.

    If the server ignores the requested range, `partial` is rewritten from the start.

    Raises:
        OSError: the server cannot be reached, or the connection ended before the end of the file.
    """
    there = partial.stat().st_size if partial.exists() else 0
    if there >= published.size:
        return
    request = urllib.request.Request(published.url, headers={"Range": f"bytes={there}-"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        if answer.status != 206:
            there = 0
        bar = console.Progress(f"downloading {NAME}", published.size, "byte", done=there)
        with partial.open("ab" if there else "wb") as file, bar:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
            got = file.tell()
    if got < published.size:
        raise OSError(f"the connection ended after {got} bytes; run again to continue")


def _check(path: Path, published: Published, advice: str) -> Path:
    """Returns `path`; raises `UserError`, with `advice`, unless it is the published file."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; {advice} ({published.url})")
    size = path.stat().st_size
    digest = file_digest(path, "md5") if size == published.size else "not computed"
    if digest != published.md5:
        raise UserError(
            f"{path} is not the published {published.name}: it has {size} bytes (MD5 {digest}), "
            f"expected {published.size} (MD5 {published.md5}); {advice}"
        )
    return path


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file by `algorithm`, a name that hashlib knows."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()
