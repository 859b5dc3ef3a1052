"""A job as pages show it: what each row and the job's page need to know, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.states import FINAL, MOVES, Event, State, allows
from pq_daemon.runtime.names import shown
from pq_daemon.server.pages.showing import Middle, display, middle, size
from pq_daemon.server.resources.jobs import ACTIONS
from pq_daemon.server.values import base_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.jobs.model import Job, Progress
    from pq_daemon.jobs.order import Moment

WORDS: Final[Mapping[str, str]] = {
    "retry": "Retry",
    "cancel": "Cancel",
    "hold": "Hold",
    "release": "Release",
    "run-now": "Run now",
}
ORDER: Final = ("retry", "run-now", "release", "hold", "cancel")
WHEN: Final[Mapping[State, str]] = {
    State.HELD: "accepted",
    State.SCHEDULED: "due",
    State.QUEUED: "accepted",
    State.RUNNING: "for",
    State.RETRYING: "next try",
    State.SUCCEEDED: "ended",
    State.FAILED: "ended",
    State.CANCELLED: "ended",
}


@dataclass(frozen=True, slots=True)
class Action:
    """What a person may ask of a job; `why_not` says what keeps them from it."""

    name: str
    word: str
    why_not: str = ""

    @property
    def states(self) -> str:
        """The states it is for, as the page's module reads them."""
        sources = set(MOVES[ACTIONS[self.name]].sources)
        if self.name == "cancel":
            sources.add(State.RUNNING)
        return " ".join(state for state in State if state in sources)


@dataclass(frozen=True, slots=True)
class JobView:
    job: Job
    state: State
    name: Middle
    full_name: str
    about: str
    is_file: bool
    progress: Progress | None
    when: Moment | None
    when_word: str
    note: str
    attempts_most: int | None
    actions: tuple[Action, ...]

    @property
    def allowed(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if not action.why_not)


def job_view(job: Job, progress: Progress | None = None) -> JobView:
    """Work out what pages show of a job; `progress` is what its handler said last."""
    if job.file is None:
        name = full = f"payload {job.key}" if job.key else f"payload of job {job.id}"
    else:
        name, full = shown(base_name(job.file.relpath)), shown(job.file.path)
    running = job.state is State.RUNNING
    return JobView(
        job=job,
        state=job.state,
        name=middle(name),
        full_name=display(full),
        about=_about(job),
        is_file=job.file is not None,
        progress=(progress or job.progress) if running else None,
        when=_when(job),
        when_word=WHEN[job.state],
        note=_note(job),
        attempts_most=_attempts_most(job),
        actions=actions(job.state, cancel_requested=job.cancel_requested_at is not None),
    )


def _about(job: Job) -> str:
    """Where below its root the file lies, and its size; what a payload is instead."""
    if job.file is None:
        return "payload"
    folder, slash, _ = job.file.relpath.rpartition(b"/")
    parts = [display(shown(folder + slash))] if slash else []
    return " · ".join([*parts, size(job.file.identity.size)])


def _when(job: Job) -> Moment | None:
    if job.state in FINAL:
        return job.finished_at
    if job.state is State.RUNNING:
        return job.started_at
    if job.state in {State.SCHEDULED, State.RETRYING}:
        return job.run_at
    return job.created_at


def _attempts_most(job: Job) -> int | None:
    """Return the number its last possible attempt would have; None when it has ended."""
    if job.is_final:
        return None
    open_attempt = 1 if job.state is State.RUNNING else 0
    return job.attempt + max(0, job.max_attempts - job.spent - open_attempt)


def _note(job: Job) -> str:
    """One line that says why the job is where it is; empty when all is as usual."""
    if job.state is State.RUNNING:
        return "cancelling: waiting for its handler to end" if job.cancel_requested_at else ""
    line = last_line(job.error)
    if job.state is State.SUCCEEDED or not line:
        return job.reason.replace("_", " ") if job.reason else ""
    return line


def last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return display(lines[-1].strip()) if lines else ""


def actions(state: State, *, cancel_requested: bool = False) -> tuple[Action, ...]:
    """Return all actions in their order, each with what keeps a job in this state from it."""
    return tuple(_action(name, state, cancel_requested=cancel_requested) for name in ORDER)


def _action(name: str, state: State, *, cancel_requested: bool) -> Action:
    word = "Run again" if name == "retry" and state is State.SUCCEEDED else WORDS[name]
    event = ACTIONS[name]
    if event is Event.CANCEL and state is State.RUNNING:
        return Action(name, word, "already asked for" if cancel_requested else "")
    if allows(event, state):
        return Action(name, word)
    return Action(name, word, f"not for a job that is {state}")
