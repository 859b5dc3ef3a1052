"""/jobs/{id}/attempts and what each of them printed: bytes, with ranges, also while it runs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pq_daemon.errors import InvalidRequestError, NotFoundError
from pq_daemon.server import queries, values
from pq_daemon.server.answers import list_answer
from pq_daemon.server.keys import STORE
from pq_daemon.server.problems import Problem
from pq_daemon.server.routing import get
from pq_daemon.store.outputs import Stream, shown

if TYPE_CHECKING:
    from pq_daemon.jobs.model import JobId
    from pq_daemon.store.protocol import Store

STREAMS: Final = {"stdout": Stream.STDOUT, "stderr": Stream.STDERR}
RANGE: Final = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))")
PIECE: Final = 64 * 1024
PIECE_TIME_S: Final = 20.0


async def index(request: web.Request) -> web.Response:
    number = queries.job_id(request.match_info["id"])
    store = request.app[STORE]
    await store.job(number)
    attempts = sorted(await store.attempts(number), key=lambda one: one.number, reverse=True)
    return list_answer([values.attempt(one) for one in attempts])


async def output(request: web.Request) -> web.StreamResponse:
    """Send an attempt's output, whole or the range that was asked for."""
    number = queries.job_id(request.match_info["id"])
    attempt = queries.job_id(request.match_info["attempt"])
    stream = _stream(queries.once(request.query, "stream"))
    text = await output_of(request.app[STORE], number, attempt, stream)
    wanted = None if "If-Range" in request.headers else request.headers.get("Range")
    part = part_of(wanted, len(text))
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="job-{number}-attempt-{attempt}.txt"',
    }
    if part.is_range:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{len(text)}"
    return await _sent(request, text[part.start : part.end], 206 if part.is_range else 200, headers)


def _stream(name: str | None) -> Stream | None:
    if name is not None and name not in STREAMS:
        raise InvalidRequestError(f'stream: "{name}" is none of: {", ".join(STREAMS)}')
    return STREAMS.get(name or "")


async def output_of(store: Store, job: JobId, attempt: int, stream: Stream | None = None) -> bytes:
    """Return what an attempt printed so far.

    Raises:
        NotFoundError: no such attempt.

    """
    known = await store.attempts(job)
    if not any(one.number == attempt for one in known):
        raise NotFoundError(f"job {job} has no attempt {attempt}")
    raw = await store.inline_output(job, attempt)
    if raw is None:
        raw = await asyncio.to_thread(store.outputs.read, job, attempt)
    if raw is None:  # between the two looks it moved from its file into its row
        raw = await store.inline_output(job, attempt)
    return b"" if raw is None else await asyncio.to_thread(shown, raw, stream)


@dataclass(frozen=True, slots=True)
class Part:
    start: int
    end: int
    is_range: bool


def part_of(header: str | None, size: int) -> Part:
    """Return the part of `size` bytes that a Range header asks for.

    What is no single range of bytes is left out of account (RFC 9110, 14.2).

    Raises:
        Problem: 416, the range begins beyond the end.

    """
    asked = RANGE.fullmatch(header.strip()) if header else None
    if asked is None:
        return Part(0, size, is_range=False)
    first, last, suffix = asked.groups()
    if first is None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return Part(0, size, is_range=False)
    if start >= size:
        raise Problem(
            416,
            "range_not_satisfiable",
            f"there are {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return Part(start, end, is_range=True)


async def _sent(
    request: web.Request, body: bytes, status: int, headers: dict[str, str]
) -> web.StreamResponse:
    """Send in pieces, each within a time: a reader who stops reading does not keep the bytes."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = "application/octet-stream"
    response.content_length = len(body)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        for at in range(0, len(body), PIECE):
            async with asyncio.timeout(PIECE_TIME_S):
                await response.write(body[at : at + PIECE])
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        return response  # the reader has left: that is theirs to decide
    return response


ROUTES: Final = (
    get("/jobs/{id}/attempts", index),
    get("/jobs/{id}/attempts/{attempt}/output", output, "stream"),
)
