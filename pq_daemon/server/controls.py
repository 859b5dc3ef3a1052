"""What the server asks of the daemon, and nothing more. `daemon.py` hands in the real thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pq_daemon.config import Settings
    from pq_daemon.config.loading import Problem
    from pq_daemon.jobs.model import JobId, Progress, WatchName
    from pq_daemon.jobs.order import Moment
    from pq_daemon.jobs.status import SlotStatus, WatchStatus
    from pq_daemon.store.protocol import Actor

Phase = Literal["starting", "running", "stopping"]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did. With problems, nothing was applied."""

    at: Moment
    changed: tuple[str, ...] = ()  # keys that are in force now
    restart: tuple[str, ...] = ()  # keys that changed and wait for a restart
    problems: tuple[Problem, ...] = ()


class Controls(Protocol):
    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        ...

    @property
    def phase(self) -> Phase: ...

    @property
    def last_reload(self) -> Reloaded | None: ...

    def slots(self) -> Sequence[SlotStatus]: ...

    def watches(self) -> Sequence[WatchStatus]: ...

    def progress(self, job: JobId) -> Progress | None:
        """What a running job's handler said last."""
        ...

    def rescan(self, watch: WatchName) -> None:
        """Have the watch scanned now.

        Raises:
            NotFoundError: no such watch.

        """
        ...

    async def explain(self, path: bytes) -> Mapping[str, Any]:
        """Say why a path becomes a job or does not, as the API shows it."""
        ...

    async def check(self) -> list[dict[str, Any]]:
        """Look whether folders, programs and places for results are there, as the API shows it."""
        ...

    async def diagnose(self) -> list[dict[str, Any]]:
        """Look at everything a support person would ask for."""
        ...

    async def reload(self, actor: Actor) -> Reloaded:
        """Load config.toml again and apply it, or keep what is in force and say why."""
        ...
