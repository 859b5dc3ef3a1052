"""What commands write: tables, moments and durations for people, the API's own words for programs.

Nothing that came from outside drives the terminal: every cell and every line is escaped here. The
answer of the API is passed on as it is; only on a terminal its unprintable characters become JSON
escapes, which say the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.runtime.names import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GAP: Final = "  "
NARROWEST: Final = 12
UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
SHORT: Final = 9.95
KIBI: Final = 1024
DELETE: Final = 0x7F


def prepare() -> None:
    """Have stdout and stderr take any text: what the terminal's encoding lacks is escaped.

    One that is closed (`pq run >&-`) goes nowhere.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good
        getattr(sys, name).reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Write one line to people, escaped."""
    sys.stdout.write(one_line(text) + "\n")


def complain(text: str) -> None:
    """Write one line about what went wrong, escaped, on stderr."""
    sys.stdout.flush()  # in order, when both end up in one file
    sys.stderr.write("pq: " + one_line(text) + "\n")


def flush() -> None:
    """Let readers of a pipe see what was written so far."""
    sys.stdout.flush()


def answer(text: str) -> None:
    """Write the body of an API answer, whole and as it is."""
    if sys.stdout.isatty():
        text = "".join(
            char if char.isprintable() or char == "\n" else _escaped(char) for char in text
        )
    sys.stdout.write(text.rstrip("\n") + "\n")


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if ord(char) != DELETE else "\\u007f"


def raw(content: bytes, *, to_stderr: bool = False) -> None:
    """Write a handler's output: byte for byte into a pipe, escaped but for lines on a terminal."""
    place = sys.stderr if to_stderr else sys.stdout
    if place.isatty():
        place.write(harmless(content))
    else:
        place.flush()
        place.buffer.write(content)
    place.flush()


def harmless(content: bytes) -> str:
    """Return text that is safe on a terminal; only line ends and tabs still act."""
    text = content.decode("utf-8", "backslashreplace")
    return "".join(char if char in "\n\t" else one_line(char) for char in text)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, elastic: int = -1) -> None:
    """Write columns. On a terminal the `elastic` one is shortened so that a row is one line."""
    cells = [[one_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    everything = [list(heads), *cells]
    widths = [max(map(width, column)) for column in zip(*everything, strict=True)]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths) - len(GAP) * (len(widths) - 1)
        widths[elastic] = max(min(NARROWEST, widths[elastic]), widths[elastic] + min(0, room))
    for row in everything:
        row[elastic] = shortened(row[elastic], widths[elastic])
        padded = (cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True))
        sys.stdout.write(GAP.join(padded).rstrip() + "\n")


def width(text: str) -> int:
    """Columns that a terminal gives the text."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def shortened(text: str, most: int) -> str:
    """Take the middle out of a text that is too wide: the end of a name tells it from others."""
    if width(text) <= most:
        return text
    head, tail = text[: (most - 1) // 2], text[-(most // 2) :]
    while width(head) + width(tail) + 1 > most and (head or tail):
        head, tail = (head[:-1], tail) if width(head) >= width(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def facts(pairs: Mapping[str, object]) -> None:
    """Write one fact a line, those that are known."""
    known = {name: value for name, value in pairs.items() if value not in {None, ""}}
    most = max(map(len, known), default=0)
    for name, value in known.items():
        say(f"{name:<{most}}  {value}")


def moment(text: str | None) -> str:
    """Return an API time as local time with its offset, to the second."""
    if not text:
        return ""
    return parsed(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def clock(text: str | None) -> str:
    """Return the time of the day of an API time, local, to the millisecond."""
    if not text:
        return ""
    return parsed(text).astimezone().strftime("%H:%M:%S.%f")[:-3]


def parsed(text: str) -> datetime:
    return datetime.fromisoformat(text)


def age(text: str | None) -> str:
    """Return how long ago an API time is; "in 5s" when it is ahead."""
    if not text:
        return ""
    seconds = (datetime.now(UTC) - parsed(text)).total_seconds()
    return duration(seconds) if seconds >= 0 else f"in {duration(-seconds)}"


def between(start: str | None, end: str | None) -> str:
    """Return the time between two API times; until now when the second is not known."""
    if not start:
        return ""
    until = parsed(end) if end else datetime.now(UTC)
    return duration(max(0.0, (until - parsed(start)).total_seconds()))


def duration(seconds: float) -> str:
    """Return seconds as people say them: 420ms, 1.5s, 12s, 3m 20s, 2h 5m, 3d 4h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < SHORT:
        return f"{seconds:.1f}s".replace(".0s", "s")
    left = round(seconds)
    parts = []
    for unit, letter in UNITS:
        count, left = divmod(left, unit)
        if count:
            parts.append(f"{count}{letter}")
        elif parts:
            break
    return " ".join(parts[:2])


def size(amount: int | None) -> str:
    """Return bytes as people say them."""
    if amount is None:
        return ""
    if amount < KIBI:
        return f"{amount} B"
    value = float(amount)
    for unit in ("KiB", "MiB", "GiB"):
        value /= KIBI
        if value < KIBI:
            return f"{value:.1f} {unit}"
    return f"{value / KIBI:.1f} TiB"


def percent(progress: Mapping[str, Any] | None) -> str:
    """Return a job's progress in a few words."""
    if not progress:
        return ""
    return f"{progress['percent']:.0f}% {progress['text']}".rstrip()
