"""What `pq check` looks at beyond the file: folders, rights, programs, places for results.

It looks with the rights and the PATH of whoever asks: a command sees what its user sees, the daemon
what its own user and sandbox let it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pq_daemon.inspection import folders, programs
from pq_daemon.inspection.surveying import survey
from pq_daemon.producer.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.config.settings import Settings
    from pq_daemon.inspection.findings import Finding


def findings(settings: Settings, *, imports: bool = True) -> Iterator[Finding]:
    """Look at every watch and every queue, in file order.

    `imports`: have Python handlers imported, in processes of their own.
    """
    plan = make_plan(settings)
    there = survey(plan)
    for configured, watch in zip(settings.watches, plan.watches, strict=True):
        yield from folders.watched(configured, watch, there[watch.name])
    for queue in settings.queues.values():
        where = f"queue.{queue.name}"
        yield from programs.handler(where, queue, settings, imports=imports)
        yield from folders.output(where, queue)
