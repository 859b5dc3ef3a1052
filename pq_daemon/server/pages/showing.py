"""How values read on a page: names that cannot play tricks, times and sizes for people.

Templates escape everything; what is done here is for characters that are text and still deceive: a
newline inside a name, or a mark that turns the direction of what follows it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pq_daemon.server import values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pq_daemon.jobs.order import Moment

DECEIVING: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
TAIL: Final = 14
"""Characters of a long name that always show: the extension and some before it."""

NOTHING: Final = "\N{EN DASH}"
UNITS: Final = ("kB", "MB", "GB", "TB")
STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Middle(NamedTuple):
    """A name in two parts; the first may be cut short where there is no room."""

    head: str
    tail: str


def display(name: str) -> str:
    """Show what cannot be seen: controls and direction marks as escapes."""
    return DECEIVING.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


def display_lines(text: str) -> str:
    """Show a text of several lines: like `display`, with its line ends and tabs kept."""
    return DECEIVING.sub(
        lambda found: found[0] if found[0] in "\n\t" else display(found[0]),
        text.replace("\r\n", "\n"),
    )


def middle(name: str) -> Middle:
    text = display(name)
    if len(text) <= TAIL * 2:
        return Middle("", text)
    return Middle(text[:-TAIL], text[-TAIL:])


def size(count: int | None) -> str:
    if count is None:
        return NOTHING
    if count < 1000:  # noqa: PLR2004
        return f"{count} B"
    power = min(len(UNITS), (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.1f} {UNITS[power - 1]}"


def duration(milliseconds: int | None) -> str:
    """Return a length of time in one or two units; never negative."""
    if milliseconds is None:
        return NOTHING
    milliseconds = max(0, milliseconds)
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    return _two_units(int(seconds))


def _two_units(seconds: int) -> str:
    for (length, unit), (smaller, small_unit) in pairwise(STEPS):
        if seconds >= length:
            rest = seconds % length // smaller
            return (
                f"{seconds // length} {unit} {rest} {small_unit}"
                if rest
                else (f"{seconds // length} {unit}")
            )
    return f"{seconds} s"


def relative(moment: Moment, now: Moment) -> str:
    """Return how long ago, or in how long."""
    distance = now - moment
    words = brief(abs(distance))
    if words == "now":
        return words
    return f"{words} ago" if distance >= 0 else f"in {words}"


def brief(milliseconds: int) -> str:
    """Return a length of time in one unit, as the pages' module counts on."""
    seconds = milliseconds // 1000
    for length, unit in STEPS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return "now"


def age(milliseconds: int) -> str:
    words = brief(max(0, milliseconds))
    return "0 s" if words == "now" else words


def plain(kind: str) -> str:
    """Return a word of the program as a word of a sentence: run_now, run-now → run now."""
    return kind.replace("_", " ").replace("-", " ")


def number(count: int) -> str:
    return f"{count:,}"


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "age": age,
    "display": display,
    "lines_display": display_lines,
    "middle": middle,
    "size": size,
    "duration": duration,
    "relative": relative,
    "iso": values.time,
    "plain": plain,
    "number": number,
}
