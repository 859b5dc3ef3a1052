"""Where an attempt's output lies, and its form on the disk.

One append-only file an attempt, `<state_dir>/output/<job>-<attempt>.out`, made at the first byte.
It is a row of frames: one byte that names the stream, four bytes of length (big endian), the bytes.
So each stream stays exact and their order as it was read is kept; a torn last frame (the daemon
died) is left out when reading. What does not fit the limit is cut from the middle: the head stays
in this file, the tail goes round in two more (`.tail0`, `.tail1`) that take turns, and `settle`
joins them with a CUT frame that says how many bytes are missing. A small output moves into the
store's row and its file goes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pq_daemon.jobs.model import JobId

FRAME: Final = struct.Struct(">BI")
INLINE_MOST: Final = 4096
"""Framed bytes; an output up to this size is kept in the attempt's row."""


class Stream(IntEnum):
    STDOUT = 1
    STDERR = 2
    CUT = 3  # payload: ASCII decimal count of the bytes left out here


@dataclass(frozen=True, slots=True)
class Frame:
    stream: Stream
    data: bytes


def framed(stream: Stream, data: bytes) -> bytes:
    return FRAME.pack(stream, len(data)) + data


def frames(raw: bytes) -> Iterator[Frame]:
    """Read whole frames; a torn last one is left out."""
    at = 0
    while at + FRAME.size <= len(raw):
        stream, length = FRAME.unpack_from(raw, at)
        start = at + FRAME.size
        if start + length > len(raw) or stream not in Stream:
            return
        yield Frame(Stream(stream), raw[start : start + length])
        at = start + length


def shown(raw: bytes, stream: Stream | None = None) -> bytes:
    """Return what a person reads: one stream exactly, or both in order; the cut in words."""
    parts = []
    for frame in frames(raw):
        if frame.stream is Stream.CUT:
            parts.append(b"\n[... %s bytes cut ...]\n" % frame.data)
        elif stream is None or frame.stream is stream:
            parts.append(frame.data)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The directory of outputs."""

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

        Blocking: call it in a thread. The size is bounded by the queue's output_limit.
        """
        raise NotImplementedError  # written with the capture
