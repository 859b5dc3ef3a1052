"""Jobs that are posted to somebody who is down, slow, endless, or breaks off in the middle."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pq_daemon.jobs.states import Event, Outcome, Reason, State
from tests.consumers.shop import a_queue, a_shop
from tests.consumers.test_flood import resident
from tests.consumers.test_http import MIB, a_peer
from tests.support.builders import PERSON
from tests.support.daemon_process import free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


async def test_nobody_is_there(tmp_path: Path) -> None:
    queue = a_queue(http=f"http://127.0.0.1:{free_port()}/", max_attempts=2)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
    assert (job.reason, job.spent) == (Reason.ATTEMPTS, 2)
    assert "Connect call failed" in (job.error or "")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "the server hung up without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n", "broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
    ],
)
async def test_an_answer_that_is_none(tmp_path: Path, said: bytes, error: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with a_shop(
            tmp_path, a_queue(http=f"http://127.0.0.1:{port}/", max_attempts=1)
        ) as shop:
            job = await shop.run()
            attempt = await shop.only_attempt(job)
    assert (attempt.outcome, job.reason) == (Outcome.FAILED, Reason.ATTEMPTS)
    assert error in (job.error or "")


async def test_a_connection_that_is_reset_in_the_middle(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(MIB)})
        await response.prepare(request)
        await response.write(b"the beginning")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue()) as shop:
        job = await shop.run()
        assert (await shop.stdout(job)) in {b"", b"the beginning"}
    assert (job.state, job.reason) == (State.FAILED, Reason.ATTEMPTS)


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"drip\n")
        await asyncio.sleep(0.01)


async def never(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("answer", [never, dripping])
async def test_a_slow_answer_runs_into_the_timeout(tmp_path: Path, answer: Any) -> None:
    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue(timeout=0.3)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        assert (await shop.stdout(job)).startswith(b"drip" if answer is dripping else b"")
        await wait_until(lambda: not peer.at_once, what="the peer to be left")
    assert (attempt.outcome, attempt.reason) == (Outcome.TIMED_OUT, "timeout")


async def test_cancel_and_drain_hang_up(tmp_path: Path) -> None:
    async with a_peer(never) as peer, a_shop(tmp_path, peer.queue()) as shop:
        job = await shop.submit()
        await wait_until(lambda: peer.at_once, what="the request")
        await shop.store.act(job.id, Event.CANCEL, PERSON)
        job = await shop.ended(job)
        assert (job.state, job.spent) == (State.CANCELLED, 0)
        await wait_until(lambda: not peer.at_once, what="the peer to be left")
        job = await shop.submit()
        await wait_until(lambda: peer.at_once, what="the request")
        assert await shop.pool.drain(0.05) == 1
        assert ((await shop.job(job)).state, (await shop.job(job)).spent) == (State.QUEUED, 0)


async def test_a_huge_answer_is_bounded(tmp_path: Path, long: bool) -> None:
    mibs = 1024 if long else 128
    block = b"0123456789abcde\n" * 2**16

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(mibs):
            await response.write(block)
        return response

    async with a_peer(answer) as peer, a_shop(tmp_path, peer.queue()) as shop:
        before, most = resident(), 0
        job = await shop.submit()
        while not (await shop.job(job)).is_final:
            most = max(most, resident() - before)
            await asyncio.sleep(0.01)
        job = await shop.job(job)
        attempt = await shop.only_attempt(job)
        assert len(await shop.stdout(job)) == MIB
    assert (job.state, job.result) == (State.SUCCEEDED, None)
    assert (attempt.output.stdout, attempt.output.cut) == (mibs * MIB, (mibs - 1) * MIB)
    assert most < 32 * MIB


async def test_no_more_connections_than_the_queue_may_have(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response()

    async with (
        a_peer(answer) as peer,
        a_shop(tmp_path, peer.queue(concurrency=2), workers=6) as shop,
    ):
        jobs = [await shop.submit() for _ in range(12)]
        for job in jobs:
            assert (await shop.ended(job)).state is State.SUCCEEDED
        assert peer.most_at_once == 2
