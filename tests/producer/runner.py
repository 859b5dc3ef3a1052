"""The producer alone in a process of its own, to be killed: `python -m tests.producer.runner S R`.

R is one watched folder or more, of which later ones may lie in earlier ones; $CLAIM is
their `claim`.


Says "up"; then, for each line it is sent: a number waits until so many files are accepted, "scan"
scans until there is nothing more to take; it answers with the watch's state and the reason for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.jobs.model import QueueName
from pq_daemon.producer.folders import watch_folders
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import FileState, QueueEntry
from tests.producer.folder import a_watch, settings_of
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pq_daemon.producer.folders import Producer
    from pq_daemon.store.protocol import Store


async def main(state: Path, *roots: Path) -> None:
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        partial(asyncio.StreamReaderProtocol, asked), sys.stdin
    )
    async with open_store(state) as store:
        await store.configure_queues([QueueEntry(QueueName("files"), "command", 0, paused=False)])
        watches = [
            a_watch(root, name=f"files{number or ''}", claim=os.environ.get("CLAIM", "in-place"))
            for number, root in enumerate(roots)
        ]
        async with watch_folders(settings_of(state, *watches), store) as producer:
            print("up", flush=True)
            while line := await asked.readline():
                if line.strip().isdigit():
                    await wait_until(partial(has_accepted, store, int(line)), timeout=40)
                elif line.strip() == b"scan":
                    await settled(producer)
                status = producer.statuses()[0]
                print(status.state.value, status.reason, flush=True)


async def has_accepted(store: Store, number: int) -> bool:
    counts = [watch.counts for watch in await store.watches()]
    return sum(each.get(FileState.ACCEPTED, 0) for each in counts) == number


async def settled(producer: Producer) -> None:
    for _ in range(2):  # the scan under way may have passed what came last
        await scanned_again(producer)
    await wait_until(lambda: producer.waiting() == 0, timeout=40)


async def scanned_again(producer: Producer) -> None:
    before = {status.name: status.last_scan for status in producer.statuses()}
    for name in before:
        producer.rescan(name)

    def have_all() -> bool:
        return all(before[now.name] != now.last_scan for now in producer.statuses())

    await wait_until(have_all, timeout=40)


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
