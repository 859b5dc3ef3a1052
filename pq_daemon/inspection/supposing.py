"""What a job would be given if a file became one now: arguments, output, priority. Blocking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pq_daemon.config.masking import masked_value
from pq_daemon.consumers.environment import arguments, output_target, values
from pq_daemon.jobs.model import FileVersion, Job, JobId, QueueName
from pq_daemon.jobs.order import Moment, rank
from pq_daemon.jobs.placeholders import PlaceholderError
from pq_daemon.jobs.states import State
from pq_daemon.runtime.names import shown

if TYPE_CHECKING:
    from pq_daemon.config import Settings
    from pq_daemon.config.settings import QueueSettings
    from pq_daemon.jobs.order import Priority

NO_ID = b"<job id>"


def supposed(file: FileVersion, queue: QueueSettings, priority: Priority) -> Job:
    """Return the job a file would be, without an id."""
    return Job(
        id=JobId(0),
        queue=QueueName(queue.name),
        state=State.QUEUED,
        reason=None,
        priority=priority,
        rank=rank(Moment(0), priority),
        run=1,
        attempt=1,
        spent=0,
        max_attempts=queue.max_attempts,
        created_at=Moment(0),
        run_at=None,
        started_at=None,
        finished_at=None,
        cancel_requested_at=None,
        file=file,
        payload=None,
        key=None,
        error=None,
        result=None,
        progress=None,
    )


def would(
    file: FileVersion, queue: QueueSettings, priority: Priority, settings: Settings
) -> dict[str, Any]:
    """Say which queue would take a file, and what would be run on it."""
    given = values(supposed(file, queue, priority), None) | {"job_id": NO_ID}
    found: dict[str, Any] = {
        "queue": queue.name,
        "priority": priority.value,
        "held": queue.hold_new,
        "runs": None,
        "output": None,
        "problem": None,
    }
    try:
        if queue.output:
            target = output_target(queue.output, given, os.fsencode(settings.directory))
            given["output"] = target
            found["output"] = shown(target)
        found["runs"] = _runs(queue, given)
    except PlaceholderError as error:
        found["problem"] = str(error)
    return found


def _runs(queue: QueueSettings, given: dict[str, bytes]) -> list[str]:
    if queue.command is not None:
        words = [shown(argument) for argument in arguments(queue.command, given)]
        return list(masked_value(words, "command"))
    return [str(masked_value(queue.python or queue.http or ""))]
