"""The steps around a handler, in threads: look at the input, make room, look again, clean up.

A step that has nothing to do is left out, so a job without a file or output makes no hop at all.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers import publishing
from pq_daemon.consumers.handlers.outcome import Ended, failed, put_back
from pq_daemon.consumers.inputs import Look, Unreachable, look
from pq_daemon.jobs.states import Outcome, Reason
from pq_daemon.runtime.names import shown
from pq_daemon.store.protocol import Publication

if TYPE_CHECKING:
    from pq_daemon.consumers.inputs import Roots
    from pq_daemon.consumers.scratch import Scratch
    from pq_daemon.jobs.model import Job

log = logging.getLogger(__name__)

NO_ROOM: Final = 5.0
"""Seconds to wait when the state directory cannot take a scratch directory."""


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt's dealings with the file system. Every method blocks; the properties do not."""

    job: Job
    slot: int
    scratch: Scratch
    roots: Roots
    needs_scratch: bool
    target: bytes | None  # where the output goes
    temporary: bytes | None  # where the handler writes it
    umask: int
    on_conflict: str

    @property
    def needs_look(self) -> bool:
        """Whether there is an input or an output: they may lie on a mount that hangs."""
        return self.job.file is not None or self.temporary is not None

    @property
    def needs_room(self) -> bool:
        """Whether something must be made before the handler can begin."""
        if self.temporary is not None:
            return True
        return self.needs_scratch and not self.scratch.is_made(self.slot)

    @property
    def needs_cleaning(self) -> bool:
        """Whether the handler has left something. Looks at the scratch directory, briefly."""
        if self.temporary is not None:
            return True
        return self.needs_scratch and not self.scratch.is_as_new(self.slot)

    def prepare(self) -> Ended | None:
        """Look at the input, make the output's directory; or say why it cannot begin.

        Whoever waits may leave: what happens later is harmless.
        """
        trouble = self._look_at_input()
        if trouble is not None or self.target is None or self.temporary is None:
            return trouble
        try:
            publishing.make_parents(self.target, self.umask)
            publishing.discard(self.temporary)
        except OSError as error:
            parent = shown(os.path.dirname(self.target))  # noqa: PTH120 - bytes
            return failed("output", f"cannot make {parent}: {error.strerror}")
        return None

    def make_room(self) -> Ended | None:
        """Make what the handler works in, on our own disk; to be seen through."""
        try:
            if self.temporary is not None:
                self.scratch.note_temporary(self.job.id, self.job.attempt, self.temporary)
            if self.needs_scratch and not self.scratch.is_made(self.slot):
                self.scratch.renew(self.slot)
        except OSError as error:
            return put_back(f"no scratch directory: {error.strerror}", NO_ROOM)
        return None

    def _look_at_input(self) -> Ended | None:
        if self.job.file is None:
            return None
        found = look(self.job.file, self.job.created_at, self.roots)
        if isinstance(found, Unreachable):
            return put_back(found.reason, found.wait)
        if found is Look.GONE:
            error = "the file is gone"
            return Ended(Outcome.FAILED, "input_gone", error, Reason.INPUT_GONE)
        if found is Look.OTHER:
            error = "the file has changed: the new version is a job of its own"
            return Ended(Outcome.CANCELLED, "superseded", error, Reason.SUPERSEDED)
        return None

    def confirm(self, ended: Ended) -> Ended | Publication:
        """Look, after a success, whether the input is still the same and the output is there.

        Returns:
            How it ended; or, when there is an output, what is to be published.

        """
        return self._look_at_input() or self._output(ended)

    def _output(self, ended: Ended) -> Ended | Publication:
        if self.target is None or self.temporary is None:
            return ended
        identity = publishing.ready(self.temporary, self.umask, by_us=not self.needs_scratch)
        if isinstance(identity, Ended):
            return identity
        target = publishing.choose(self.target, self.on_conflict)
        if target is None:
            return self.taken()
        return Publication(self.temporary, target, identity, ended.exit_code or 0)

    def place(self, publication: Publication) -> Publication | Ended | None:
        """Publish. None: done. Another publication: the name was taken meanwhile, try this one."""
        try:
            if publishing.place(publication, replace=self.on_conflict == "replace"):
                return None
        except OSError as error:
            name = shown(publication.target)
            return failed("output", f"cannot publish {name}: {error.strerror}")
        target = None
        if self.target is not None:
            target = publishing.choose(self.target, self.on_conflict, publication.target)
        if target is None:
            return self.taken()
        return Publication(publication.temp, target, publication.identity, publication.exit_code)

    def taken(self) -> Ended:
        return failed("output exists", f"{shown(self.target or b'')} exists already")

    def clean(self) -> None:
        """Remove what the attempt leaves behind."""
        if self.temporary is not None:
            publishing.discard(self.temporary)
            self.scratch.forget_temporary(self.job.id, self.job.attempt)
        if self.needs_scratch and not self.scratch.is_as_new(self.slot):
            try:
                self.scratch.renew(self.slot)
            except OSError as error:  # the next attempt tries again, and waits if it cannot
                log.warning("scratch not renewed", extra={"slot": self.slot, "error": str(error)})
