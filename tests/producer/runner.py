"""The producer alone in a process of its own, to be killed: `python -m tests.producer.runner S R`.

Says "up"; then, for each line it is sent, "settled" once a scan begun after that has found nothing
more to take.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.jobs.model import QueueName
from pq_daemon.producer.folders import watch_folders
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import QueueEntry
from tests.producer.folder import FILES, a_watch, settings_of
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pq_daemon.producer.folders import Producer


async def main(state: Path, root: Path) -> None:
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        partial(asyncio.StreamReaderProtocol, asked), sys.stdin
    )
    async with open_store(state) as store:
        await store.configure_queues([QueueEntry(QueueName("files"), "command", 0, paused=False)])
        async with watch_folders(settings_of(state, a_watch(root)), store) as producer:
            print("up", flush=True)
            while await asked.readline():
                await settled(producer)
                print("settled", flush=True)


async def settled(producer: Producer) -> None:
    for _ in range(2):  # the scan under way may have passed what came last
        await scanned_again(producer)
    await wait_until(lambda: producer.waiting() == 0, timeout=40)


async def scanned_again(producer: Producer) -> None:
    before = producer.statuses()[0].last_scan
    producer.rescan(FILES)
    await wait_until(lambda: producer.statuses()[0].last_scan != before, timeout=40)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
