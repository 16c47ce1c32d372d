"""The web application: the page and three endpoints below /api, only for this computer.

GET  /api/model    the model's emotions and measured accuracy, and the limits
POST /api/picture  an encoded picture; the response contains its faces
POST /api/video    a video; the response has one line of JSON per frame while it is read

Errors are {"error": {"code", "message", "facts"}}; in the response to a video, such a line is the
last one. No input is kept: a picture stays in memory, and a video is in a temporary file, which has
no name on Linux and is deleted after the response on other systems.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer_jax import console
from fer_jax.faces.images import looks_like_picture
from fer_jax.faces.tracks import longest_gap
from fer_jax.languages import emotions
from fer_jax.recogniser import Recogniser
from fer_jax.web import answers
from fer_jax.web.answers import Json, RequestError

HOSTS = ["127.0.0.1", "localhost"]
PAGE = Path(__file__).parent / "page"
MEGABYTE = 1_000_000

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_OPEN_FILES = Path("/proc/self/fd")  # the open files of this process, on Linux
_SIGNATURE = 16  # bytes that identify the type of a file


@dataclass(frozen=True)
class Limits:
    """The limits beyond which requests are refused.

    Attributes:
        upload_bytes: the maximum size of a picture or video, in bytes.
        video_s: the maximum length of a video, in seconds.
        waiting: the maximum number of requests that wait while another is analysed.
        patience_s: the maximum time in seconds that a request waits, and that a client may take to
            send the next part of a file or to read the next part of a response.
    """

    upload_bytes: int
    video_s: float
    waiting: int = 3
    patience_s: float = 30.0


class _Queue:
    """Lets one analysis run at a time and a few requests wait; others are refused as "busy"."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = asyncio.Lock()
        self._inside = 0

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Reserves a place in the queue, or refuses the request if the queue is full."""
        if self._inside > self._limits.waiting:
            raise _busy()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits until no other file is analysed; refuses the request after `patience_s`."""
        try:
            async with asyncio.timeout(self._limits.patience_s):
                await self._lock.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        finally:
            self._lock.release()


def make_app(
    recogniser: Recogniser,
    facts: Json,
    limits: Limits,
    *,
    every_s: float,
    batch: int,
) -> Starlette:
    """Makes the application.

    Args:
        recogniser: finds and classifies the faces.
        facts: the description of the model, for the page.
        limits: the limits beyond which requests are refused.
        every_s: seconds of video between the frames that are read; 0: every frame.
        batch: frames that are analysed together.
    """
    queue = _Queue(limits)
    about = {
        **facts,
        "labels": list(recogniser.labels),
        "emotions": emotions.by_language(),
        "max_upload_bytes": limits.upload_bytes,
        "max_video_s": limits.video_s,
        "every_s": every_s,
        "longest_gap_s": longest_gap(every_s),
    }

    async def model(request: Request) -> JSONResponse:
        return JSONResponse(about)

    async def picture(request: Request) -> JSONResponse:
        content = io.BytesIO()
        async with queue.place():
            await _receive(request, limits, content, picture=True)
            async with queue.turn():
                found = await to_thread.run_sync(answers.picture, recogniser, content.getvalue())
        return JSONResponse(found)

    def read_video(path: Path) -> Generator[Json, None, None]:
        return answers.video(recogniser, path, every_s=every_s, batch=batch, most_s=limits.video_s)

    return Starlette(
        routes=[
            Route("/api/model", model),
            Route("/api/picture", picture, methods=["POST"]),
            Route("/api/video", _VideoEndpoint(queue, limits, read_video), methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[
            Middleware(_WithHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False),
            Middleware(_SameOrigin),
        ],
        exception_handlers={
            RequestError: _refused,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )


class _VideoEndpoint:
    """Receives a video into a temporary file, and sends the response while it is analysed."""

    def __init__(
        self, queue: _Queue, limits: Limits, read: Callable[[Path], Generator[Json, None, None]]
    ) -> None:
        self._queue, self._limits, self._read = queue, limits, read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._limits.patience_s):
                    await send(message)
            except TimeoutError:  # the client does not read the response, and others wait
                raise ClientDisconnect from None

        async with self._queue.place():
            with _nameless_file() as (file, path):
                await _receive(Request(scope, receive), self._limits, file, picture=False)
                file.flush()
                async with self._queue.turn():
                    with contextlib.closing(self._read(path)) as lines:
                        first = await to_thread.run_sync(next, lines)
                        answer = StreamingResponse(
                            _encoded(first, lines), media_type="application/jsonl"
                        )
                        # The connection is closed if the response is not completed.
                        with contextlib.suppress(ClientDisconnect):
                            await answer(scope, receive, send_in_time)


async def _encoded(first: Json, lines: Iterator[Json]) -> AsyncIterator[bytes]:
    """Lines of JSON; an error is the last line, since the response has already begun."""
    line: Json | None = first
    while line is not None:
        yield json.dumps(line).encode() + b"\n"
        try:
            line = await to_thread.run_sync(next, lines, None)
        except RequestError as refusal:
            yield json.dumps(refusal.as_json()).encode() + b"\n"
            return
        except Exception as error:
            _tell(error)
            yield json.dumps(RequestError(500, "failed").as_json()).encode() + b"\n"
            return


@contextlib.contextmanager
def _nameless_file() -> Iterator[tuple[IO[bytes], Path]]:
    """A new empty file, and a path to it.

    On Linux the file has no name, so it disappears even if the process is killed. On other systems
    it is deleted at the end of the block.
    """
    if _OPEN_FILES.is_dir():
        with tempfile.TemporaryFile() as file:
            yield file, _OPEN_FILES / str(file.fileno())
    else:
        with tempfile.TemporaryDirectory(prefix="fer_jax_") as folder:
            path = Path(folder, "video")
            with path.open("wb") as file:
                yield file, path


async def _receive(request: Request, limits: Limits, into: IO[bytes], *, picture: bool) -> None:
    """Writes the body of a request to `into`.

    A file of the wrong kind is received completely and discarded, since browsers read no response
    before they have sent the whole file.

    Raises:
        RequestError: the file is empty, too large or of the wrong kind, or stops arriving.
    """
    size, head = 0, b""
    _check_size(int(request.headers.get("content-length", 0)), limits)
    parts = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.patience_s):
                part = await anext(parts, None)
        except TimeoutError:
            raise RequestError(408, "stalled", "The file did not arrive; send it again.") from None
        if part is None:
            break
        size += len(part)
        _check_size(size, limits)
        head += part[: _SIGNATURE - len(head)]
        if len(head) < _SIGNATURE or looks_like_picture(head) == picture:
            into.write(part)
    if not size:
        raise RequestError(415, "empty")
    if looks_like_picture(head) != picture:
        raise RequestError(415, "not_a_picture" if picture else "is_a_picture")


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.upload_bytes:
        megabytes = limits.upload_bytes // MEGABYTE
        raise RequestError(
            413,
            "upload_too_large",
            f"The file is larger than {megabytes} MB; make it smaller, or start the page with a "
            "larger --max_upload_mb.",
            megabytes=megabytes,
        )


def _busy() -> RequestError:
    return RequestError(
        503, "busy", "Other files are being read at the moment; try again in a few seconds."
    )


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    # Otherwise, the rest of the file would be read as the next request.
    return JSONResponse(error.as_json(), error.status, {"Connection": "close"})


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    _tell(error)
    return JSONResponse(RequestError(500, "failed").as_json(), 500)


def _tell(error: Exception) -> None:
    """Prints the type of an unexpected error.

    Its message, which may quote a file, is printed only for debugging.
    """
    if console.debugging():
        console.say(*"".join(traceback.format_exception(error)).splitlines())
    console.warn(f"serve: a file could not be analysed ({type(error).__name__})")


class _WithHeaders:
    """Adds headers that forbid other sites to embed the page, and the page to load from them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _SameOrigin:
    """Refuses requests from pages of other origins, except GET and HEAD.

    Requests without an origin, such as those of programs, are served.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin != f"http://{headers.get('host')}"
        if foreign or site not in ("same-origin", "none"):
            text = "This request comes from another site; open this page at its own address."
            answer = JSONResponse(RequestError(403, "foreign", text).as_json(), 403)
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)
