"""Writes one attempt's output to its file: the head, then the tails that take turns.

Blocking, one call at a time: `capture` calls it in a thread. A full disk never fails a job: what
cannot be written is counted as cut, and a small output survives in memory all the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pq_daemon.jobs.model import OutputSize
from pq_daemon.store.outputs import INLINE_MOST, Stream, framed, privately

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pq_daemon.jobs.model import JobId
    from pq_daemon.store.outputs import OutputFiles


class Recording:
    """The output of one attempt, on its way to the disk."""

    def __init__(self, files: OutputFiles, job: JobId, attempt: int, limit: int) -> None:
        self._files = files
        self._job = job
        self._attempt = attempt
        self._head_room = limit - limit // 2
        self._tail_room = limit // 2
        self._given = {Stream.STDOUT: 0, Stream.STDERR: 0}
        self._missing = 0
        self._small = bytearray()  # the frames, as long as they are few
        self._in_small = 0
        self._descriptor: int | None = None
        self._tail: int | None = None  # which of the two is being written; None: the head
        self._in_tail = 0
        self.trouble: OSError | None = None

    def __repr__(self) -> str:
        return f"<Recording job={self._job} attempt={self._attempt} given={self.given}>"

    @property
    def given(self) -> int:
        """Bytes that the streams gave, kept or not."""
        return sum(self._given.values())

    def write(self, chunks: Iterable[tuple[Stream, bytes]]) -> None:
        for stream, data in chunks:
            place = self.given
            self._given[stream] += len(data)
            room = max(0, self._head_room - place)
            if room:
                self._to_head(stream, data[:room])
            if len(data) > room and not self._tail_room:
                self._missing += len(data) - room
            elif len(data) > room:
                self._to_tail(stream, data[room:], place + room)

    def finish(self) -> tuple[OutputSize, bytes | None]:
        """Make durable what was written, in one file; or return the frames when they are few."""
        if self._in_small == self.given:
            self._close()
            return self._size(cut=0), bytes(self._small)
        if self._tail is None and not self._missing and self._descriptor is not None:
            os.fsync(self._descriptor)
            self._close()
            return self._size(cut=0), None
        self._close()
        return self._settle()

    def close(self) -> None:
        """Leave it as it is, as a crash would."""
        self._close()

    def _settle(self) -> tuple[OutputSize, bytes | None]:
        try:
            settled = self._files.settle(self._job, self._attempt, self._tail_room, self._missing)
        except OSError as error:
            self.trouble = error
            cut = max(self._missing, self.given - self._head_room)
            return self._size(cut), None
        if settled is None:
            return self._size(self.given), framed(Stream.CUT, b"%d" % self.given)
        size, inline = settled
        return self._size(size.cut), inline

    def _size(self, cut: int) -> OutputSize:
        return OutputSize(self._given[Stream.STDOUT], self._given[Stream.STDERR], cut)

    def _to_head(self, stream: Stream, data: bytes) -> None:
        frame = framed(stream, data)
        if len(self._small) + len(frame) <= INLINE_MOST:
            self._small += frame
            self._in_small += len(data)
        self._write(self._files.head(self._job, self._attempt), frame, len(data))

    def _to_tail(self, stream: Stream, data: bytes, place: int) -> None:
        """Keep at least the last `tail_room` bytes, in at most two files."""
        left_out = max(0, len(data) - self._tail_room)
        data = data[left_out:]
        parts = [framed(stream, data)] if data else []
        if self._tail is None or left_out or self._in_tail >= self._tail_room:
            self._take_turns()
            parts.insert(0, framed(Stream.AT, b"%d" % (place + left_out)))
        self._in_tail += len(data)
        self._write(self._path_of_tail(), b"".join(parts), len(data))

    def _take_turns(self) -> None:
        self._close()
        self._tail = 1 - (self._tail or 0)
        self._in_tail = 0
        self._path_of_tail().unlink(missing_ok=True)  # a reader may still be in the old one

    def _path_of_tail(self) -> Path:
        return self._files.tails(self._job, self._attempt)[self._tail or 0]

    def _write(self, path: Path, raw: bytes, payload: int) -> None:
        if self.trouble is not None:
            self._missing += payload
            return
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._descriptor = privately(os.fspath(path), flags)
            _write_all(self._descriptor, raw)
        except OSError as error:  # the disk is full, or gone: the job goes on
            self.trouble = error
            self._missing += payload

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however little the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
