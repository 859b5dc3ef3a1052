"""A store with some of everything in it, as a busy afternoon leaves one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.jobs.model import OutputSize, Progress, QueueName
from pq_daemon.jobs.order import Moment, Priority
from pq_daemon.jobs.retry import Backoff
from pq_daemon.jobs.states import Event, Outcome, Reason
from pq_daemon.jobs.status import SlotState, SlotStatus
from pq_daemon.runtime.names import shown
from pq_daemon.store.outputs import Stream, framed
from pq_daemon.store.protocol import Claim
from tests.support.builders import PERSON, a_file, a_submission, ending

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import Store
    from tests.support.serving import Panel

NAMES: Final = (
    b"invoices/2026/11/rechnung-0815.pdf",
    b"scans/0042-contract-with-a-rather-long-and-descriptive-file-name-from-the-copier-in-the-hall.tiff",
    "urlaub/Grüße aus Überlingen 🏖.jpg".encode(),
    "報告書/二〇二六年十一月.xlsx".encode(),
    b"<img src=x onerror=alert(1)>.html",
    "evil\u202egpj.exe".encode(),
    b"two\nlines.txt",
    b"not-utf8-\xff\xfe.bin",
    b"-rf",
    b"data/measurements-2026-11-24T08-00.csv",
    b"backup/home.tar.zst",
    b"music/01 - Overture.flac",
)
ERROR: Final = "Traceback (most recent call last):\n  ...\nOSError: cannot identify image file"


async def furnish(store: Store, panel: Panel, watched: Path) -> list[Job]:
    """Put jobs of every state into the store, and what runs into the panel."""
    root = bytes(watched)
    jobs = [await _submit(store, file=a_file(name, root=root), payload=None) for name in NAMES]
    await _submit(store, payload='{"mailing": 7}', key="mailing-7", priority=Priority.HIGH)
    await _submit(store, payload="{}", hold=True)
    await _submit(store, payload="{}", run_at=Moment(store.now() + 3 * 3_600_000))
    claim = Claim((1, 2, 3, 4), {QueueName("files"): 100})
    for _ in range(2):
        claimed = (await store.exchange([], claim)).claimed
        endings = [ending(store, job, **_how(place, job)) for place, (_, job) in enumerate(claimed)]
        await store.exchange(endings, Claim())
    await store.act(jobs[10].id, Event.CANCEL, PERSON)
    running = (await store.exchange([], Claim((1, 2, 3), {QueueName("files"): 3}))).claimed
    _run(panel, running)
    return jobs


async def _submit(store: Store, **changes: object) -> Job:
    job, _ = await store.submit(a_submission(**changes), PERSON)
    return job


def _how(place: int, job: Job) -> dict[str, Any]:
    output = framed(
        Stream.STDOUT, b"reading " + (job.file.relpath if job.file else b"payload") + b"\n"
    )
    output += framed(Stream.STDOUT, b"page 1 of 3\npage 2 of 3\npage 3 of 3\n")
    if place % 4 == 1:
        output += framed(Stream.STDERR, ERROR.encode() + b"\n")
        return {
            "outcome": Outcome.FAILED,
            "reason": "exit 1",
            "exit_code": 1,
            "error": ERROR,
            "final_reason": Reason.DISCARDED,
            "inline": output,
            "output": OutputSize(stdout=60, stderr=90),
        }
    if place % 4 == 2:
        return {
            "outcome": Outcome.TIMED_OUT,
            "reason": "timeout",
            "error": "no end after 30 min",
            "backoff": Backoff(base=600.0),
            "inline": output,
            "output": OutputSize(stdout=60),
        }
    return {
        "outcome": Outcome.SUCCEEDED,
        "exit_code": 0,
        "inline": output,
        "output": OutputSize(stdout=60),
        "result": '{"pages": 3}',
    }


def _run(panel: Panel, running: list[tuple[int, Job]]) -> None:
    """Show in the panel what the store says is running."""
    for (slot, job), percent in zip(running, (62.0, 8.5, None), strict=False):
        progress = None if percent is None else Progress(percent, "page 3 of 5")
        if progress is not None:
            panel.progresses[job.id] = progress
        name = shown(job.file.relpath) if job.file else None
        panel.slot_list[slot - 1] = SlotStatus(
            slot, SlotState.RUNNING, job.id, name, job.queue, job.attempt, job.started_at, progress
        )
