# ruff: noqa: PTH103, PTH106, PTH112, PTH118, PTH119, PTH120 - paths are bytes
"""Claiming a file: it is moved to `<root>/.pq/work/<id>/NAME` before its job is accepted.

Nobody who writes to the folder reaches it there. The claim is committed first, then the file is
renamed (never over another one), looked at again, and accepted together with the end of its claim.
Whatever breaks that off leaves a claim open in the store; each of those is undone, at a start or as
soon as the store answers again: the file goes back to where it was found, and is found again. Its
marker, if it has one, goes with it. Only one hand claims or undoes at a time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import PqError
from pq_daemon.producer.moving import place, rename_noreplace, sync
from pq_daemon.producer.plan import WORK
from pq_daemon.producer.readiness import (
    BUSY,
    GONE,
    READ_FLAGS,
    SETTLES,
    Lease,
    ask_lease,
    identity_of,
    is_file,
)
from pq_daemon.producer.roots import filesystem_of
from pq_daemon.runtime.names import shown
from pq_daemon.store.protocol import Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.versions import Identity
    from pq_daemon.producer.grounds import Grounds
    from pq_daemon.producer.recording import Recorder
    from pq_daemon.producer.threads import Threads
    from pq_daemon.store.protocol import FileClaim, Found, Intake, LedgerEntry, Store

log = logging.getLogger(__name__)

PAUSE: Final = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that could not be claimed, and why; whether it lies where it was again."""

    reason: str
    undone: bool = True


class Claims:
    def __init__(
        self, grounds: Grounds, store: Store, recorder: Recorder, threads: Threads
    ) -> None:
        self._grounds = grounds
        self._store = store
        self._recorder = recorder
        self._threads = threads
        self._turn = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()  # what a former run has left

    async def accept(self, found: Sequence[tuple[Found, bytes]]) -> list[Intake | Refused]:
        """Claim files, with the endings of their markers, and accept them.

        Raises:
            StoreError: what has been claimed by then is undone later.

        """
        async with self._turn:
            try:
                return await self._accept(found)
            except PqError:
                self._open.set()
                raise

    async def keep_undoing(self) -> None:
        """Undo the claims that are left open, whenever there may be some."""
        pause = PAUSE[0]
        while True:
            await self._open.wait()
            self._open.clear()
            try:
                async with self._turn:
                    is_left = await self._undo_all()
            except PqError as error:
                log.warning("claims stay open", extra={"error": str(error)})
                is_left = True
            if is_left:
                await asyncio.sleep(pause)
                self._open.set()
            pause = min(2 * pause, PAUSE[1]) if is_left else PAUSE[0]

    async def _accept(self, found: Sequence[tuple[Found, bytes]]) -> list[Intake | Refused]:
        entries = await self._store.entries([one.file.origin for one, _ in found])
        claimed = [
            await self._claim(one, marker)
            if needs_claim(one, entries.get(one.file.origin))
            else one
            for one, marker in found
        ]
        able = [one for one in claimed if not isinstance(one, Refused)]
        answers = await self._recorder.accept(able) if able else []
        taken = dict(zip(map(id, able), answers, strict=True))
        if any(one.claim and taken[id(one)].taken is not Taken.ACCEPTED for one in able):
            await self._undo_all()  # there is no job to keep them for
        return [one if isinstance(one, Refused) else taken[id(one)] for one in claimed]

    async def _claim(self, one: Found, marker: bytes) -> Found | Refused:
        claim = await self._recorder.claim(one.file)
        moved = await self._threads.run(
            take_away, claim, marker, inodes_count=one.file.inodes_count
        )
        if isinstance(moved, Refused):
            if moved.undone:
                await self._recorder.give_up(claim.id)
            else:
                self._open.set()
            return moved
        file = replace(one.file, identity=moved, place=place_of(claim))
        return replace(one, file=file, claim=claim.id)

    async def _undo_all(self) -> bool:
        """Undo what can be; whether something is left that must wait."""
        is_left = False
        for claim in await self._store.file_claims():
            root = self._grounds.roots.get(claim.root)
            is_there = root is None or root.look is not None
            marker = self._grounds.plan.marker(claim.watch)
            if is_there and await self._threads.run(put_back, claim, marker):
                await self._recorder.give_up(claim.id)
                log.info("claim undone", extra={"path": shown(claim.relpath), "claim": claim.id})
            else:
                is_left = is_left or root is not None
        return is_left


def needs_claim(one: Found, entry: LedgerEntry | None) -> bool:
    """Whether a file may become a job: what is known or skipped stays where it is. Pure."""
    if one.skip:
        return False
    if entry is None or entry.accepted is None or entry.gone:
        return True
    file = one.file
    is_known = entry.accepted.same_file(file.identity, inodes_count=file.inodes_count) or (
        file.sha256 is not None and file.sha256 == entry.sha256
    )
    return not is_known


# --- on the disk; blocking -----------------------------------------------------------------------


def place_of(claim: FileClaim) -> bytes:
    return os.path.join(claim.root, WORK, b"%d" % claim.id, os.path.basename(claim.relpath))


def origin_of(claim: FileClaim) -> bytes:
    return os.path.join(claim.root, claim.relpath)


def take_away(claim: FileClaim, marker: bytes, *, inodes_count: bool) -> Identity | Refused:
    """Rename a file to its place of work; if it is not what was claimed, it goes back."""
    origin, target = origin_of(claim), place_of(claim)
    try:
        _make_place(claim)
        rename_noreplace(origin, target)
        objection = _objection(claim, target, inodes_count=inodes_count)
        if objection:
            return Refused(objection, put_back(claim, b""))
        if marker:
            with suppress(FileNotFoundError, FileExistsError):
                rename_noreplace(origin + marker, target + marker)
        sync(os.path.dirname(target))
        sync(os.path.dirname(origin))
        return identity_of(os.lstat(target))
    except OSError as error:
        is_gone = error.errno in GONE and not os.path.lexists(origin)
        reason = SETTLES if is_gone else f"cannot be claimed: {_words(error)}"
        return Refused(reason, put_back(claim, marker))


def _make_place(claim: FileClaim) -> None:
    """Each directory is on the disk before a file goes into it."""
    directory = claim.root
    for name in (*WORK.split(b"/"), b"%d" % claim.id):
        above, directory = directory, os.path.join(directory, name)
        with suppress(FileExistsError):
            os.mkdir(directory)  # noqa: PTH102
            sync(above)


def _words(error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return "it is on another file system than its watch"
    return error.strerror or str(error)


def _objection(claim: FileClaim, target: bytes, *, inodes_count: bool) -> str:
    """Who has opened it before it was moved can still write: then it is not whole."""
    fd = os.open(target, READ_FLAGS)
    try:
        if not claim.identity.same_file(identity_of(os.fstat(fd)), inodes_count=inodes_count):
            return SETTLES
        return BUSY if ask_lease(fd, filesystem_of(fd)) is Lease.BUSY else ""
    finally:
        os.close(fd)


def put_back(claim: FileClaim, marker: bytes) -> bool:
    """Undo whatever has been done of a claim; whether it is undone. Can be repeated.

    Where another file has taken the name meanwhile, the claimed one goes beside it. On a directory
    that has never seen a claim (an unmounted disk has left it) nothing can be told.
    """
    origin, target = origin_of(claim), place_of(claim)
    try:
        if marker and is_file(target + marker):
            place(target + marker, origin + marker)
        if os.path.lexists(target):
            os.makedirs(os.path.dirname(origin), exist_ok=True)
            place(target, origin)
            sync(os.path.dirname(origin))
        elif not os.path.isdir(os.path.join(claim.root, WORK)):
            return is_file(origin)
        leave(target)
    except OSError as error:
        log.warning("claim not undone", extra={"path": shown(origin), "error": str(error)})
        return False
    return True


def leave(target: bytes) -> None:
    """Remove the directory of a claim, if nothing is in it."""
    with suppress(OSError):
        os.rmdir(os.path.dirname(target))
