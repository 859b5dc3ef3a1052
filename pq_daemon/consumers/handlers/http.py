"""The `http` handler: one POST, its answer kept as output, its status the end of the attempt.

Every attempt has a connection of its own: on one that was kept, nobody can tell whether a request
that broke off had been taken. Certificates are checked, redirects are not followed, cookies and
proxies of the environment play no part. What the URL and the headers take from the env_file shows
in no error. An answer is read to its end and kept like a command's output; the rest is `timeout`'s.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from pq_daemon import __version__
from pq_daemon.config.http_urls import filled, headers_of
from pq_daemon.consumers.handlers.outcome import SUCCEEDED, Ended, failed
from pq_daemon.consumers.lines import LINE_MOST, Result, understand
from pq_daemon.jobs.states import Outcome, Reason
from pq_daemon.runtime.names import one_line, shown
from pq_daemon.store.outputs import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pq_daemon.consumers.attempt import Attempt
    from pq_daemon.consumers.threads import Threads
    from pq_daemon.jobs.model import Job
    from pq_daemon.jobs.order import Moment

CONNECT: Final = 30.0
"""Seconds to reach the other side; `timeout` bounds the whole."""

PIECE: Final = 256 * 1024
SECRET_LEAST: Final = 4
"""Characters; what is shorter hides nothing and would blot out words."""

WORDS_MOST: Final = 200
TRY_AGAIN: Final = frozenset({408, 425})
"""Client errors that are none of the job's: a failed attempt."""

LATER: Final = frozenset({429, 503})


class Client:
    """What the http handlers of a pool share; made when the first of them runs."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No limit here: a queue's concurrency and the pool's size are the limits.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
                auto_decompress=False,
                headers={"User-Agent": f"pq-daemon/{__version__}", "Accept-Encoding": "identity"},
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def post(attempt: Attempt, client: Client, threads: Threads, now: Moment) -> Ended:
    """Send the job, and the file with it when the queue wants that; return how it ended.

    Cancelling this hangs up. `now` is what a date in Retry-After is compared with.
    """
    queue, job = attempt.plan.queue, attempt.job
    if queue.send == "file" and job.file is None:
        error = 'there is no file to send: the queue says send = "file"'
        return replace(failed("no file", error), final_reason=Reason.DISCARDED)
    secrets = attempt.plan.secrets
    try:
        headers = headers_of(secrets)
        sending = _sending(attempt, threads, headers)
        url = URL(filled(queue.http or "", secrets), encoded=True)
        async with client.session.post(
            url, data=sending, headers=headers, allow_redirects=False
        ) as answer:
            words = await _keep(attempt, answer)
            ended = judged(answer.status, answer.headers, words, now)
            return (
                ended
                if ended.error is None
                else replace(ended, error=without(ended.error, secrets))
            )
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = words_of(error)
        return failed("HTTP", without(why, secrets))


# --- what is sent ---------------------------------------------------------------------------------


def _sending(
    attempt: Attempt, threads: Threads, headers: dict[str, str]
) -> bytes | AsyncIterator[bytes]:
    """Return the body; what else is sent is added to the headers."""
    job = attempt.job
    headers["Idempotency-Key"] = f"{job.id}-{job.run}"
    about = described(job)
    if attempt.plan.queue.send == "job" or job.file is None:
        headers["Content-Type"] = "application/json"
        payload = None if job.payload is None else json.loads(job.payload)
        return json.dumps({**about, "payload": payload}).encode()
    headers["Content-Type"] = "application/octet-stream"
    headers["Content-Length"] = str(job.file.identity.size)
    headers["PQ-Job"] = json.dumps(about)
    return _pieces(threads, job.file.path, job.file.identity.size)


def described(job: Job) -> dict[str, Any]:
    """Return a job as the other side is told of it; names as the API shows them."""
    told: dict[str, Any] = {
        "id": str(job.id),
        "run": job.run,
        "attempt": job.attempt,
        "last_attempt": job.is_last_attempt,
        "queue": job.queue,
        "watch": None,
        "name": None,
        "relpath": None,
        "path": None,
        "size": None,
        "sha256": None,
    }
    file = job.file
    if file is not None:
        told |= {
            "watch": file.watch,
            "name": shown(os.path.basename(file.relpath)),  # noqa: PTH119 - names are bytes
            "relpath": shown(file.relpath),
            "path": shown(file.path),
            "size": file.identity.size,
            "sha256": file.sha256.hex() if file.sha256 else None,
        }
        if told["path"].encode() != file.path:
            told["path_b64"] = base64.b64encode(file.path).decode()
    return told


async def _pieces(threads: Threads, path: bytes, size: int) -> AsyncIterator[bytes]:
    """Read a file in threads, as long as it was at its acceptance and no longer.

    Raises:
        OSError: it cannot be read, or is shorter now.

    """
    descriptor = await threads.run(os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = size
        while left:
            piece = await threads.run(os.read, descriptor, min(PIECE, left))
            if not piece:
                raise OSError(f"the file became shorter while it was sent: {left} bytes less")
            left -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


# --- what comes back ------------------------------------------------------------------------------


async def _keep(attempt: Attempt, answer: aiohttp.ClientResponse) -> str:
    """Keep the answer as output; a small one in JSON is the job's result. Return its first line."""
    flows = asyncio.Event()
    flows.set()
    beginning = bytearray()

    def hold(held: bool) -> None:
        if held:
            flows.clear()
        else:
            flows.set()

    async for piece in answer.content.iter_chunked(PIECE):
        attempt.write(Stream.STDOUT, piece, hold)
        beginning += piece[: max(0, LINE_MOST + 1 - len(beginning))]
        await flows.wait()
    if answer.content_type == "application/json" and len(beginning) <= LINE_MOST:
        said = understand(b"::result " + bytes(beginning))
        attempt.result = said.text if isinstance(said, Result) else None
    line = bytes(beginning).strip().partition(b"\n")[0]
    return one_line(shown(line.strip()))[:WORDS_MOST]


def judged(status: int, headers: Mapping[str, str], words: str, now: Moment) -> Ended:
    """Say what a status means. Pure."""
    reason = f"HTTP {status}"
    error = f"{_named(status)}: {words}" if words else _named(status)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return SUCCEEDED
    if status < HTTPStatus.BAD_REQUEST:
        target = one_line(headers.get("Location", ""))[:WORDS_MOST]
        error = f"{_named(status)}: redirects are not followed; Location: {target or 'none'}"
        return replace(failed(reason, error), final_reason=Reason.DISCARDED)
    if status in LATER:
        after = retry_after(headers.get("Retry-After", ""), now)
        return Ended(Outcome.POSTPONED, reason, error, after=after)
    if status in TRY_AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return failed(reason, error)
    return replace(failed(reason, error), final_reason=Reason.DISCARDED)


def _named(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def retry_after(text: str, now: Moment) -> float | None:
    """Seconds of a Retry-After header: a number or a date; None when it says neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - now / 1000)


# --- errors without secrets -----------------------------------------------------------------------


def words_of(error: Exception) -> str:
    """Say what went wrong, without the URL that some errors carry."""
    words = one_line(str(error)) or type(error).__name__
    match error:
        case aiohttp.InvalidURL():
            words = "the URL is not one"
        case aiohttp.ClientResponseError():
            words = f"the answer is not HTTP: {one_line(error.message)[:WORDS_MOST]}"
        case aiohttp.ClientPayloadError():
            words = "the answer broke off"
        case aiohttp.ServerDisconnectedError():
            words = "the server hung up without an answer"
        case TimeoutError():
            words = f"no connection within {CONNECT:g} s"
        case aiohttp.ClientConnectionError() if isinstance(error.__cause__, OSError):
            words = one_line(str(error.__cause__))
    return words


def without(text: str, secrets: Mapping[bytes, bytes]) -> str:
    """Hide the secrets that a text may quote."""
    values = (value.decode() for value in secrets.values() if len(value) >= SECRET_LEAST)
    for value in sorted(values, key=len, reverse=True):
        for form in (value, quote(value, safe="")):
            text = text.replace(form, "***")
    return text
