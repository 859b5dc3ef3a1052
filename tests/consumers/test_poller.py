"""The epoll inside the loop: who is watched is called, who is forgotten is not."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from functools import partial

from pq_daemon.runtime.poller import Poller
from tests.support.waiting import wait_until


async def test_a_readable_descriptor_calls_back_until_it_is_forgotten() -> None:
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    called: list[int] = []
    with closing(Poller()) as poller:
        poller.watch(read, lambda: called.append(1))
        await asyncio.sleep(0)
        assert called == []
        os.write(write, b"x")
        await wait_until(lambda: len(called) > 3, what="calls while there is something to read")
        poller.forget(read)
        poller.forget(read)
        seen = len(called)
        await asyncio.sleep(0)
        assert len(called) == seen
        poller.watch(read, lambda: called.append(2))
        await wait_until(lambda: called[-1] == 2, what="the new callback")
        poller.forget(read)
    os.close(read)
    os.close(write)


async def test_one_that_an_earlier_one_has_closed_is_not_called() -> None:
    pipes = [os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) for _ in range(8)]
    called: list[int] = []
    with closing(Poller()) as poller:

        def close_all_others(mine: int) -> None:
            called.append(mine)
            for read, _ in pipes:
                poller.forget(read)
                os.close(read)

        for read, write in pipes:
            poller.watch(read, partial(close_all_others, read))
            os.write(write, b"x")
        await wait_until(lambda: called, what="the first call")
        await asyncio.sleep(0)
        assert len(called) == 1
    for _, write in pipes:
        os.close(write)


async def test_many_get_their_turn() -> None:
    pipes = [os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) for _ in range(200)]
    called: set[int] = set()
    with closing(Poller()) as poller:
        for read, write in pipes:
            poller.watch(read, partial(called.add, read))
            os.write(write, b"x")  # nobody reads: all stay readable
        await wait_until(lambda: len(called) == 200, what="everybody's turn")
        for read, _ in pipes:
            poller.forget(read)
    for pipe in pipes:
        for end in pipe:
            os.close(end)
