"""What a handler says on its stdout besides its output: `::progress 42 text`, `::result {json}`.

Pure. Lines are found wherever the reads cut them; they count at the beginning of a line only, and
a line that grows past its bound is output and nothing else. They stay part of the output.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.model import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_MOST: Final = 64 * 1024
"""Bytes; the longest line that is listened to, so also the largest result."""

AT_ONCE: Final = 50
"""Lines of one chunk that are listened to: a handler that shouts must not hold up the loop."""

TEXT_MOST: Final = 200
_MARK: Final = b"::"
_PROGRESS: Final = re.compile(rb"::progress\s+(\d+(?:\.\d+)?)\s*%?(?:\s+(.*))?")
_RESULT: Final = b"::result "


@dataclass(frozen=True, slots=True)
class Result:
    """The job's result: JSON, as the handler wrote it."""

    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that was meant for us and cannot be used, and why."""

    why: str


Said = Progress | Result | Refused


class Listener:
    """Finds what is said in a stream of chunks."""

    def __init__(self) -> None:
        self._line = b""  # the beginning of a line that may be one of ours
        self._listening = True  # False: in the middle of a line that is not

    def hear(self, data: bytes) -> list[Said]:
        """Return what the lines that end in this chunk say."""
        if not self._line and b"\n" + _MARK not in data and not self._may_begin(data):
            self._note_end(data)
            return []
        lines = list(self._lines(data))[-AT_ONCE:]  # of more the last would win anyway
        return [said for line in lines if (said := understand(line))]

    def end(self) -> list[Said]:
        """Return what the last line says, the one without an end."""
        said = understand(self._line)
        self._line = b""
        return [said] if said else []

    def _may_begin(self, data: bytes) -> bool:
        return self._listening and data[:2] in (_MARK, b":", b"")

    def _note_end(self, data: bytes) -> None:
        """Remember where the next chunk begins: at a line's start, or after a first colon."""
        if data.endswith(b"\n:"):
            self._line = b":"
            self._listening = True
        elif data:
            self._listening = data.endswith(b"\n")

    def _lines(self, data: bytes) -> Iterator[bytes]:
        first, *more = data.split(b"\n")
        if self._listening:
            self._grow(first)
        for piece in more:
            if self._listening:
                yield self._line
            self._line, self._listening = b"", True
            self._grow(piece)

    def _grow(self, piece: bytes) -> None:
        line = self._line + piece
        if line[:2] == _MARK[: len(line)] and len(line) <= LINE_MOST:
            self._line = line
        else:
            self._line, self._listening = b"", False


def understand(line: bytes) -> Said | None:
    """Return what a line says to us, None when it is none of ours."""
    if line.startswith(_RESULT):
        return _result(line[len(_RESULT) :])
    if line.startswith(b"::progress"):
        found = _PROGRESS.fullmatch(line.rstrip(b"\r"))
        if not found:
            return Refused("progress is a number from 0 to 100 and a text")
        text = (found[2] or b"").decode("utf-8", "replace").strip()
        return Progress(min(100.0, float(found[1])), text[:TEXT_MOST])
    return None


def _result(raw: bytes) -> Result | Refused:
    try:
        text = raw.decode("utf-8").strip()
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return Refused(f"the result is not JSON: {error}")
    return Result(text)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
