"""From the desk into the store: files that are due are examined, ready ones become jobs.

Small files go in batches of many, large ones one by one beside them. What is not ready goes back to
the desk with its reason and its next time. When the store cannot take a file it stays on the desk
and is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import PqError
from pq_daemon.jobs.model import FileVersion
from pq_daemon.producer.candidates import SETTLING, Size
from pq_daemon.producer.claiming import Refused
from pq_daemon.producer.readiness import BUSY, Answer, Question, Verdict, examine
from pq_daemon.runtime.names import shown
from pq_daemon.store.protocol import FileState, Found, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.versions import Identity
    from pq_daemon.producer.candidates import Candidate
    from pq_daemon.producer.claiming import Claims
    from pq_daemon.producer.grounds import Grounds
    from pq_daemon.producer.plan import Judgement
    from pq_daemon.producer.reasons import Reasons
    from pq_daemon.producer.recording import Recorder
    from pq_daemon.producer.threads import Threads
    from pq_daemon.store.protocol import Intake as Taking

log = logging.getLogger(__name__)

WORKERS: Final = {Size.SMALL: 2, Size.LARGE: 2}
PARK_AFTER: Final = 60.0
"""Seconds; then a file that is too small or unreadable leaves the desk to events and scans."""

BLOCKED_MOST: Final = 20_000
STORE_PAUSE: Final = (1.0, 30.0)
STORE_BUSY: Final = "the store cannot take it"


class Intake:
    def __init__(
        self,
        grounds: Grounds,
        recorder: Recorder,
        claims: Claims,
        reasons: Reasons,
        threads: Threads,
    ) -> None:
        self._grounds = grounds
        self._reasons = reasons
        self._desk = grounds.desk
        self._recorder = recorder
        self._claims = claims
        self._threads = threads
        self._sooner = asyncio.Event()
        self._due = {size: asyncio.Event() for size in Size}
        self._room = asyncio.Event()
        self._store_pause = STORE_PAUSE[0]

    def start(self, tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(self._keep_time(), name="intake clock")
        for size, workers in WORKERS.items():
            for number in range(workers):
                tasks.create_task(self._work(size), name=f"intake {size.name} {number}")

    # what others hand in

    def take_in(
        self, path: bytes, identity: Identity, judged: Judgement, *, told: str | None = None
    ) -> None:
        """Put a file on the desk. `told` is what the ledger says of this very version."""
        root = self._grounds.roots.get(judged.watch.root)
        if root is None:
            return
        reason = judged.reason or told or SETTLING
        settle = judged.watch.settle.seconds(
            root.filesystem, empty=identity.size == 0, lease_tells=True
        )
        existing = root.is_existing(judged.watch, identity)
        self._desk.note(
            path,
            identity,
            time.monotonic(),
            settle,
            reason=reason,
            told=told,
            existing=existing,
        )
        self._sooner.set()

    @property
    def is_full(self) -> bool:
        return self._desk.is_full

    async def has_room(self) -> None:
        """Wait until the desk takes more."""
        while self._desk.is_full:
            self._room.clear()
            await self._room.wait()

    # the clock

    async def _keep_time(self) -> None:
        while True:
            self._sooner.clear()
            for size in self._desk.ripen(time.monotonic()):
                self._due[size].set()
            due = self._desk.next_due()
            try:
                async with asyncio.timeout(None if due is None else due - time.monotonic()):
                    await self._sooner.wait()
            except TimeoutError:
                continue

    # the workers

    async def _work(self, size: Size) -> None:
        due = self._due[size]
        while True:
            due.clear()
            batch = self._desk.take(size)
            if batch:
                await self._examine(batch)
                self._room.set()
            else:
                await due.wait()

    async def _examine(self, batch: list[Candidate]) -> None:
        wanted = [(file, judged) for file in batch if (judged := self._still_wanted(file))]
        now = time.monotonic()
        questions = [
            Question(
                file.path,
                file.identity,
                now - file.since,
                judged.watch.settle,
                marker=judged.watch.marker,
                hashed=judged.watch.hashed,
            )
            for file, judged in wanted
        ]
        answers = await self._threads.run(examine, questions, self._threads.stopping)
        ready = []
        for (file, judged), answer in zip(wanted, answers, strict=True):
            if self._desk.get(file.path) is not file:  # gone, or judged otherwise meanwhile
                continue
            if answer.verdict is Verdict.READY:
                ready.append((file, judged, answer))
            else:
                self._not_ready(file, judged, answer)
        if ready:
            await self._accept(ready)
        self._sooner.set()

    def _still_wanted(self, file: Candidate) -> Judgement | None:
        """Judge by the plan of now; what it does not want as a job leaves or waits."""
        judged = self._grounds.plan.judge(file.path, file.identity.size, regular=True)
        root = self._grounds.root_of(file.path)
        if judged is None or root is None or root.look is None:
            self._desk.drop(file.path)
            return None
        if judged.reason is None:
            return judged
        if judged.state is FileState.IGNORED:
            self._reasons.set_aside(file.path, file.identity, judged)
        else:
            self._block(file, judged.reason)
        return None

    def _not_ready(self, file: Candidate, judged: Judgement, answer: Answer) -> None:
        now = time.monotonic()
        match answer.verdict:
            case Verdict.CHANGED if answer.identity is not None:
                settle = judged.watch.settle.seconds(
                    answer.filesystem, empty=answer.identity.size == 0, lease_tells=True
                )
                self._desk.changed(file, answer.identity, now, settle)
            case Verdict.EARLY:
                self._desk.postpone(file, SETTLING, file.since + answer.wait, blocked=False)
            case Verdict.BUSY:
                self._block(file, BUSY)
            case Verdict.UNREADABLE | Verdict.UNMARKED:
                self._block(file, answer.reason)
            case _:  # gone, or no file any more: the event or the next scan records what is there
                self._desk.drop(file.path)

    def _block(self, file: Candidate, reason: str) -> None:
        """Put a file back that may be kept from being ready for long, or park it."""
        now = time.monotonic()
        is_told = file.told == reason
        lasts = now - file.arrived > PARK_AFTER and reason != BUSY
        if is_told and (lasts or self._desk.blocked > BLOCKED_MOST):
            self._desk.drop(file.path)
            return
        if reason == BUSY:  # a writer that is at work is watched closely, one that stalls is not
            pause = min(max((now - file.since) / 4, 0.05), 1.0)
        else:
            pause = min(max((now - file.arrived) / 4, 0.5), 10.0)
        self._desk.postpone(file, reason, now + pause, blocked=True)

    async def _accept(self, ready: list[tuple[Candidate, Judgement, Answer]]) -> None:
        found = [self._found(file, judged, answer) for file, judged, answer in ready]
        try:
            taken = await self._take(ready, found)
        except PqError as error:
            self._hand_back([file for file, _, _ in ready], error)
            return
        self._store_pause = STORE_PAUSE[0]
        for root in {judged.watch.root for _, judged, _ in ready} & self._grounds.roots.keys():
            self._grounds.roots[root].is_used = True
        for (file, _, answer), one, intake in zip(ready, found, taken, strict=True):
            if isinstance(intake, Refused):
                if self._desk.get(file.path) is file:
                    self._block(file, intake.reason)
                continue
            if self._desk.get(file.path) is file:
                self._desk.finish(file, one.file.identity)
            log.debug(
                "file taken",
                extra={
                    "path": shown(file.path),
                    "taken": intake.taken.value,
                    "job": intake.job,
                    "bytes": one.file.identity.size,
                    "filesystem": answer.filesystem.name,
                },
            )
        accepted = [
            one for one in taken if not isinstance(one, Refused) and one.taken is Taken.ACCEPTED
        ]
        if accepted:
            log.info(
                "files accepted", extra={"files": len(accepted), "first": shown(ready[0][0].path)}
            )

    async def _take(
        self, ready: list[tuple[Candidate, Judgement, Answer]], found: list[Found]
    ) -> list[Taking | Refused]:
        """Accept in place, or after a claim; in the order of `found`."""
        taken: dict[int, Taking | Refused] = {}
        moves = [judged.watch.moves for _, judged, _ in ready]
        stay = [place for place, is_moved in enumerate(moves) if not is_moved]
        move = [place for place, is_moved in enumerate(moves) if is_moved]
        if stay:
            in_place = await self._recorder.accept([found[place] for place in stay])
            taken.update(zip(stay, in_place, strict=True))
        if move:
            wanted = [(found[place], ready[place][1].watch.marker) for place in move]
            taken.update(zip(move, await self._claims.accept(wanted), strict=True))
        return [taken[place] for place in range(len(found))]

    def _found(self, file: Candidate, judged: Judgement, answer: Answer) -> Found:
        watch = judged.watch
        version = FileVersion(
            watch=watch.name,
            root=watch.root,
            relpath=judged.relpath,
            identity=answer.identity or file.identity,
            inodes_count=answer.filesystem.inodes_count,
            sha256=answer.sha256,
        )
        return Found(
            version,
            watch.queue,
            watch.priority,
            watch.max_attempts,
            hold=watch.hold_new or (file.existing and watch.existing == "hold"),
            skip=file.existing and watch.existing == "skip",
            unique=watch.unique,
        )

    def _hand_back(self, files: Sequence[Candidate], error: PqError) -> None:
        log.warning("the store cannot take files", extra={"files": len(files), "error": str(error)})
        due = time.monotonic() + self._store_pause
        self._store_pause = min(self._store_pause * 2, STORE_PAUSE[1])
        for file in files:
            self._desk.postpone(file, STORE_BUSY, due, blocked=False)
        self._sooner.set()
