"""Where an attempt's output lies, and its form on the disk.

One append-only file an attempt, `<state_dir>/output/<job>-<attempt>.out`, made at the first byte.
It is a row of frames: one byte that names the stream, four bytes of length (big endian), the bytes.
So each stream stays exact and their order as it was read is kept; a torn last frame (the daemon
died) is left out when reading. What does not fit the limit is cut from the middle: the head stays
in this file, the tail goes round in two more (`.tail0`, `.tail1`) that take turns. A tail begins
with an AT frame, the place of its first byte in the whole output; so the two know their order and
what is missing between them, also while they are written and after a crash. `settle` joins them
with a CUT frame that says how many bytes are missing. A small output moves into the store's row
and its file goes.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from pq_daemon.jobs.model import OutputSize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pq_daemon.jobs.model import JobId

FRAME: Final = struct.Struct(">BI")
INLINE_MOST: Final = 4096
"""Framed bytes; an output up to this size is kept in the attempt's row."""


class Stream(IntEnum):
    STDOUT = 1
    STDERR = 2
    CUT = 3  # payload: ASCII decimal count of the bytes left out here
    AT = 4  # payload: ASCII decimal place, in the whole output, of the byte that follows


class Frame(NamedTuple):
    stream: Stream
    data: bytes

    @property
    def is_output(self) -> bool:
        return self.stream <= Stream.STDERR


def framed(stream: Stream, data: bytes) -> bytes:
    return FRAME.pack(stream, len(data)) + data


def number_framed(stream: Stream, number: int) -> bytes:
    return framed(stream, b"%d" % number)


def frames(raw: bytes) -> Iterator[Frame]:
    """Read whole frames; a torn last one is left out."""
    return frames_of(BytesIO(raw))


def frames_of(file: BinaryIO) -> Iterator[Frame]:
    """Read whole frames from where the file stands, one at a time."""
    while len(header := file.read(FRAME.size)) == FRAME.size:
        stream, length = FRAME.unpack(header)
        if not Stream.STDOUT <= stream <= Stream.AT:
            return
        data = file.read(length)
        if len(data) < length:
            return
        yield Frame(Stream(stream), data)


def shown(raw: bytes, stream: Stream | None = None) -> bytes:
    """Return what a person reads: one stream exactly, or both in order; the cut in words."""
    parts = []
    for frame in frames(raw):
        if frame.stream is Stream.CUT:
            parts.append(b"\n[... %s bytes cut ...]\n" % frame.data)
        elif frame.is_output and stream in (None, frame.stream):
            parts.append(frame.data)
    return b"".join(parts)


def content(raw: bytes, stream: Stream | None = None) -> bytes:
    """Return the bytes that were kept, exactly: of one stream, or of both in the order read."""
    return b"".join(
        frame.data for frame in frames(raw) if frame.is_output and stream in (None, frame.stream)
    )


def measured(row: Iterable[Frame]) -> OutputSize:
    """Count what a row of frames holds, and says is missing."""
    stdout = stderr = cut = 0
    for frame in row:
        if frame.stream is Stream.STDOUT:
            stdout += len(frame.data)
        elif frame.stream is Stream.STDERR:
            stderr += len(frame.data)
        elif frame.stream is Stream.CUT:
            cut += int(frame.data)
    return OutputSize(stdout, stderr, cut)


class Tail(NamedTuple):
    """A tail file and what it holds: the bytes from `at` up to `end` of the whole output."""

    at: int
    end: int
    file: BinaryIO


def join(head: Iterable[Frame], tails: Sequence[Tail], keep: int | None = None) -> Iterator[Frame]:
    """Join head and tails (in order of place), gaps as CUT frames.

    `keep`: how many bytes of the tails to keep, counted from the end; all when left out.
    """
    end = 0
    for frame in head:
        yield frame
        end += len(frame.data) if frame.is_output else 0
    first = 0 if keep is None or not tails else tails[-1].end - keep
    for at, _, file in tails:
        place = at
        for frame in frames_of(file):
            start = max(place, first, end)
            data = frame.data[start - place :]
            place += len(frame.data)
            if not data:
                continue
            if start > end:
                yield Frame(Stream.CUT, b"%d" % (start - end))
            yield Frame(frame.stream, data)
            end = start + len(data)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The directory of outputs. Everything here blocks: call it in a thread."""

    directory: Path

    def head(self, job: JobId, attempt: int) -> Path:
        return self.directory / f"{job}-{attempt}.out"

    def tails(self, job: JobId, attempt: int) -> tuple[Path, Path]:
        return (
            self.directory / f"{job}-{attempt}.tail0",
            self.directory / f"{job}-{attempt}.tail1",
        )

    def read(self, job: JobId, attempt: int) -> bytes | None:
        """Return all frames of an attempt's file, also while it runs; None when it has no file.

        The size is bounded by the queue's output_limit.
        """
        with self._row(job, attempt) as row:
            return None if row is None else b"".join(framed(*frame) for frame in row)

    def settle(
        self, job: JobId, attempt: int, keep: int | None = None, missing: int = 0
    ) -> tuple[OutputSize, bytes | None] | None:
        """Make one durable file of head and tails, atomically; None when there is none.

        Args:
            job: whose output.
            attempt: of which attempt.
            keep: how many bytes of the tails to keep; all when left out, as after a crash.
            missing: bytes known to be lost at the end, because the disk was full.

        Returns:
            What is kept and what is cut; and the frames themselves when they are few: then the
            store's row takes them, and the file is removed after that commit.

        """
        with self._row(job, attempt, keep) as row:
            if row is None:
                return None
            size = self._rewrite(job, attempt, row, missing)
        path = self.head(job, attempt)
        small = path.stat().st_size <= INLINE_MOST
        return size, path.read_bytes() if small else None

    def remove(self, job: JobId, attempt: int) -> None:
        """Remove an attempt's files: its output is in the store's row, or nobody wants it."""
        for path in (self.head(job, attempt), *self.tails(job, attempt)):
            path.unlink(missing_ok=True)

    @contextmanager
    def _row(
        self, job: JobId, attempt: int, keep: int | None = None
    ) -> Iterator[Iterator[Frame] | None]:
        with ExitStack() as stack:
            head = _opened(stack, self.head(job, attempt))
            if head is None:
                yield None
                return
            files = [_opened(stack, path) for path in self.tails(job, attempt)]
            yield join(frames_of(head), sorted(_tails(files)), keep)

    def _rewrite(self, job: JobId, attempt: int, row: Iterator[Frame], missing: int) -> OutputSize:
        head = self.head(job, attempt)
        temp = head.with_suffix(".new")
        with open(temp, "wb", opener=privately) as file:

            def copied() -> Iterator[Frame]:
                for frame in row:
                    file.write(framed(*frame))
                    yield frame
                if missing:
                    yield Frame(Stream.CUT, b"%d" % missing)
                    file.write(framed(Stream.CUT, b"%d" % missing))

            size = measured(copied())
            file.flush()
            os.fsync(file.fileno())
        temp.replace(head)
        for path in self.tails(job, attempt):
            path.unlink(missing_ok=True)
        return size


def _opened(stack: ExitStack, path: Path) -> BinaryIO | None:
    try:
        return stack.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _tails(files: Iterable[BinaryIO | None]) -> Iterator[Tail]:
    """Look where each tail begins and ends; one that is torn at its beginning is left out."""
    for file in files:
        row = frames_of(file) if file else iter(())
        first = next(row, None)
        if file is None or first is None or first.stream is not Stream.AT:
            continue
        at, start = int(first.data), file.tell()
        end = at + sum(len(frame.data) for frame in row)
        file.seek(start)
        yield Tail(at, end, file)


def privately(path: str, flags: int) -> int:
    """Open for nobody but us: what handlers print may be secret."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
