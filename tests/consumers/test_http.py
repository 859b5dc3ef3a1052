"""Jobs that are posted: to a real server, which answers well, badly, slowly or never."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import ssl
import subprocess
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pq_daemon.consumers.handlers.http import judged, retry_after
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Outcome, Reason, State
from tests.consumers.shop import a_queue, a_shop, written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from pq_daemon.config.settings import QueueSettings

MIB = 2**20


@dataclass
class Peer:
    """The other side, and what it was sent."""

    port: int = 0
    seen: list[tuple[web.Request, bytes]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def queue(self, path: str = "/", **changes: Any) -> QueueSettings:
        return a_queue(
            http=f"http://127.0.0.1:{self.port}{path}", **({"max_attempts": 1} | changes)
        )

    @property
    def headers(self) -> list[str]:
        return [f"{name}: {value}" for name, value in self.seen[-1][0].headers.items()]


@asynccontextmanager
async def a_peer(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Peer]:
    peer = Peer()

    async def take(request: web.Request) -> web.StreamResponse:
        peer.at_once += 1
        peer.most_at_once = max(peer.most_at_once, peer.at_once)
        try:
            peer.seen.append((request, await request.read()))
            return await answer(request)
        finally:
            peer.at_once -= 1

    app = web.Application(client_max_size=2**40)
    app.router.add_route("*", "/{rest:.*}", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    peer.port = runner.addresses[0][1]
    try:
        yield peer
    finally:
        await runner.cleanup()


def always(status: int = 200, text: str = "", **headers: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer


# --- what is sent --------------------------------------------------------------------------------


async def test_the_job_is_sent_and_the_answer_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "in" / "ä.txt", b"content")
    async with (
        a_peer(always(201, "thanks\n")) as peer,
        a_shop(tmp_path, peer.queue("/take?a=b")) as shop,
    ):
        job = await shop.ended(
            await shop.submit_file(path, sha256=hashlib.sha256(b"content").digest())
        )
        attempt = await shop.only_attempt(job)
        assert await shop.stdout(job) == b"thanks\n"
    assert (job.state, attempt.outcome, job.result) == (State.SUCCEEDED, Outcome.SUCCEEDED, None)
    [(request, body)] = peer.seen
    assert (request.method, request.path_qs) == ("POST", "/take?a=b")
    assert request.content_type == "application/json"
    assert request.headers["Idempotency-Key"] == f"{job.id}-1"
    assert request.headers["User-Agent"].startswith("pq-daemon/")
    assert json.loads(body) == {
        "id": str(job.id), "run": 1, "attempt": 1, "last_attempt": True, "queue": "files",
        "watch": None, "name": "ä.txt", "relpath": "ä.txt", "path": f"{tmp_path}/in/ä.txt",
        "size": 7, "sha256": hashlib.sha256(b"content").hexdigest(), "payload": None,
    }  # fmt: skip


async def test_a_payload_is_sent_and_json_is_the_result(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"got": json.loads(await request.read())["payload"]})

    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue()) as shop:
        job = await shop.run(payload='{"n": [1, "ü"]}')
    assert json.loads(job.result or "") == {"got": {"n": [1, "ü"]}}


async def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    content = os.urandom(5 * MIB + 1)
    name = b"\xff\n:.bin"
    path = written(os.fsencode(tmp_path) + b"/in/" + name, content)
    async with (
        a_peer(always()) as peer,
        a_shop(tmp_path, peer.queue(send="file")) as shop,
    ):
        job = await shop.ended(await shop.submit_file(path))
        nothing = await shop.run()
        empty = await shop.ended(await shop.submit_file(written(tmp_path / "in" / "empty", b"")))
    assert (job.state, empty.state) == (State.SUCCEEDED, State.SUCCEEDED)
    (request, body), (_, none) = peer.seen
    assert (body == content, none) == (True, b"")
    assert request.headers["Content-Length"] == str(len(content))
    assert request.content_type == "application/octet-stream"
    about = json.loads(request.headers["PQ-Job"])
    assert (about["id"], about["size"]) == (str(job.id), len(content))
    assert base64.b64decode(about["path_b64"]) == path
    assert (nothing.reason, nothing.error) == (
        Reason.DISCARDED, 'there is no file to send: the queue says send = "file"',
    )  # fmt: skip


async def test_a_file_that_changes_meanwhile_is_superseded(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.txt"
    written(path, b"first")

    async def answer(_: web.Request) -> web.Response:
        path.write_bytes(b"second version")
        return web.Response()

    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue(send="file")) as shop:
        job = await shop.ended(await shop.submit_file(path))
        gone = await shop.submit_file(path)
        path.unlink()
        gone = await shop.ended(gone)
    assert (job.state, job.reason) == (State.CANCELLED, Reason.SUPERSEDED)
    assert gone.reason in {Reason.INPUT_GONE, Reason.SUPERSEDED}


async def test_a_file_that_becomes_shorter_while_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.bin"
    written(path, b"x" * 40 * MIB)

    async def shorten(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        os.truncate(path, MIB)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(shorten, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        queue = a_queue(http=f"http://127.0.0.1:{port}/", send="file", max_attempts=2)
        async with a_shop(tmp_path, queue) as shop:
            job = await shop.ended(await shop.submit_file(path))
            first = (await shop.attempts(job))[0]
    assert (job.state, job.reason) == (State.CANCELLED, Reason.SUPERSEDED)
    assert first.outcome is Outcome.FAILED


# --- what an answer means ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome", "final"),
    [
        (200, Outcome.SUCCEEDED, None),
        (204, Outcome.SUCCEEDED, None),
        (299, Outcome.SUCCEEDED, None),
        (301, Outcome.FAILED, Reason.DISCARDED),
        (304, Outcome.FAILED, Reason.DISCARDED),
        (400, Outcome.FAILED, Reason.DISCARDED),
        (404, Outcome.FAILED, Reason.DISCARDED),
        (408, Outcome.FAILED, None),
        (425, Outcome.FAILED, None),
        (429, Outcome.POSTPONED, None),
        (499, Outcome.FAILED, Reason.DISCARDED),
        (500, Outcome.FAILED, None),
        (503, Outcome.POSTPONED, None),
        (599, Outcome.FAILED, None),
    ],
)
def test_what_a_status_means(status: int, outcome: Outcome, final: Reason | None) -> None:
    ended = judged(status, {}, "", Moment(0))
    assert (ended.outcome, ended.final_reason) == (outcome, final)
    assert outcome is Outcome.SUCCEEDED or ended.reason == f"HTTP {status}"


def test_retry_after() -> None:
    assert retry_after("120", Moment(0)) == 120.0
    assert retry_after(formatdate(1000, usegmt=True), Moment(400_000)) == 600.0
    assert retry_after(formatdate(1000, usegmt=True), Moment(2_000_000)) == 0.0
    assert retry_after("9" * 400, Moment(0)) == 9999999999.0
    for text in ("", "soon", "-5", "1.5", "²"):
        assert retry_after(text, Moment(0)) is None


async def test_an_error_says_what_the_other_side_said(tmp_path: Path) -> None:
    text = "\nno such customer\nat line 5\n"
    async with a_peer(always(422, text)) as peer, a_shop(tmp_path, peer.queue()) as shop:
        job = await shop.run()
    assert (job.state, job.reason) == (State.FAILED, Reason.DISCARDED)
    assert job.error == "HTTP 422 Unprocessable Entity: no such customer"


async def test_later_means_later(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        if len(peer.seen) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        if len(peer.seen) == 2:
            date = formatdate(time.time() - 5, usegmt=True)
            return web.Response(status=503, headers={"Retry-After": date})
        return web.Response()

    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue()) as shop:
        job = await shop.run()
        attempts = await shop.attempts(job)
    assert (job.state, job.spent) == (State.SUCCEEDED, 0)
    assert [a.outcome for a in attempts] == [
        Outcome.POSTPONED, Outcome.POSTPONED, Outcome.SUCCEEDED,
    ]  # fmt: skip
    assert attempts[1].started_at - (attempts[0].finished_at or 0) >= 1000
    assert attempts[2].started_at - (attempts[1].finished_at or 0) < 1000


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    there = always(302, Location="http://elsewhere/x")
    async with a_peer(there) as peer, a_shop(tmp_path, peer.queue()) as shop:
        job = await shop.run()
        assert len(peer.seen) == 1
    assert job.reason is Reason.DISCARDED
    assert job.error == "HTTP 302 Found: redirects are not followed; Location: http://elsewhere/x"


async def test_a_failed_attempt_is_tried_again(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=500 if len(peer.seen) < 3 else 200)

    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue(max_attempts=3)) as shop:
        job = await shop.run()
    assert (job.state, job.spent) == (State.SUCCEEDED, 2)
    keys = {request.headers["Idempotency-Key"] for request, _ in peer.seen}
    assert keys == {f"{job.id}-1"}


# --- secrets, certificates -----------------------------------------------------------------------


async def test_secrets_go_into_the_url_and_headers_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="pq_daemon")
    file = tmp_path / "secrets"
    file.write_text("KEY=hun/ter 2\nHEADER_AUTHORIZATION=Bearer hun/ter3\nHEADER_X_API_KEY=k\n")
    file.chmod(0o600)
    async with a_peer(always(400, "hun/ter 2 is wrong")) as peer:
        queue = peer.queue("/hook/${KEY}?key=${KEY}", env_file=file)
        async with a_shop(tmp_path, queue) as shop:
            refused = await shop.run()
            assert "hun" not in repr(shop.pool._setup)
        [(request, _)] = peer.seen
        assert request.raw_path == "/hook/hun%2Fter%202?key=hun%2Fter%202"
        assert "Authorization: Bearer hun/ter3" in peer.headers
        assert "X-Api-Key: k" in peer.headers
        whole = tmp_path / "whole"
        whole.write_text(f"HOOK=http://127.0.0.1:{peer.port}/a%2Fb/c\n")
        whole.chmod(0o600)
        async with a_shop(
            tmp_path / "2", a_queue(http="${HOOK}", env_file=whole, max_attempts=1)
        ) as shop:
            await shop.run()
        assert peer.seen[-1][0].raw_path == "/a%2Fb/c"
    assert refused.error == "HTTP 400 Bad Request: *** is wrong"
    assert "hun/ter" not in caplog.text


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


async def test_a_certificate_of_nobody_we_trust_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = "/CN=localhost"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -subj {subject} -addext {names}"
    files = ["-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(_run, [*command.split(), *files])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    complaints: list[object] = []  # of the peer, whose certificate nobody wants
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with a_peer(always(), tls) as peer:
        queue = a_queue(http=f"https://127.0.0.1:{peer.port}/", max_attempts=1)
        async with a_shop(tmp_path, queue) as shop:
            job = await shop.run()
        assert peer.seen == []
    assert "CERTIFICATE_VERIFY_FAILED" in (job.error or "").replace(" ", "_").upper()
