"""What the state topics of the WebSocket say: the same shapes as the API's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pq_daemon.jobs.model import JobId
from pq_daemon.jobs.states import State
from pq_daemon.server import values
from pq_daemon.server.live_frames import JOB
from pq_daemon.server.resources.watches import watch_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.server.controls import Controls
    from pq_daemon.server.live_frames import Topic
    from pq_daemon.server.statistics import Statistics
    from pq_daemon.store.protocol import Store


class Topics:
    """Builds the data of a topic."""

    def __init__(self, store: Store, controls: Controls, statistics: Statistics) -> None:
        self._store = store
        self._controls = controls
        self._statistics = statistics

    async def data(self, topic: Topic, entered: Mapping[tuple[str, str], int]) -> Any:
        """Return what a topic says now.

        Raises:
            NotFoundError: the topic is of a job that is not there.

        """
        named = topic.sight == "full"
        if topic.name.startswith(JOB):
            return await self._job(JobId(int(topic.name.removeprefix(JOB))))
        match topic.name:
            case "stats":
                return await self._statistics.summary(named=named)
            case "consumers":
                return [values.consumer(slot, named=named) for slot in self._controls.slots()]
            case "queues":
                return [values.queue(one, named=named) for one in await self._store.queues()]
            case "watches":
                return watch_values(await self._store.watches(), self._controls)
            case _:
                return await self._jobs(entered)

    async def _job(self, number: JobId) -> dict[str, Any]:
        job = await self._store.job(number)
        return values.job(job, self._controls.progress(job.id))

    async def _jobs(self, entered: Mapping[tuple[str, str], int]) -> dict[str, Any]:
        """Counts by state, and how many jobs came to each state of each queue while watched."""
        queues = await self._store.queues(every=True)
        by_queue: dict[str, dict[str, int]] = {}
        for (queue, state), count in entered.items():
            by_queue.setdefault(queue, {})[state] = count
        return {
            "counts": {s.value: sum(q.counts.get(s, 0) for q in queues) for s in State},
            "entered": by_queue,
        }
