"""Where each key of a TOML text stands: its line, and the span of its value.

tomllib forgets places, and a message without a line sends people searching. This scanner reads a
text that tomllib has already accepted; so it need not find mistakes, only never be confused by
what is inside strings, arrays, inline tables and comments. A path names a value as tomllib's
result does: ("watch", 0, "path"), arrays by index. Offsets count characters of the text.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyPath = tuple[str | int, ...]

BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
SPACE: Final = re.compile(r"[ \t]*")
BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'", re.DOTALL
)
SCALAR: Final = re.compile(r"[^,\]}#\r\n]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key or table begins, and where its value lies (a table's: its header)."""

    key: int
    start: int
    end: int


class Locations:
    """The places of all keys and tables of a text."""

    def __init__(self, text: str, places: Mapping[KeyPath, Place]) -> None:
        self._places = places
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def place(self, path: KeyPath) -> Place | None:
        return self._places.get(path)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of the key, else of the nearest table around it, from 1."""
        for length in range(len(path), 0, -1):
            place = self._places.get(path[:length])
            if place is not None:
                return bisect_right(self._line_starts, place.key)
        return None


def locate(text: str) -> Locations:
    """Find every key of a text that tomllib accepts."""
    return Locations(text, _Scanner(text).scan())


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places: dict[KeyPath, Place] = {}
        self.arrays: dict[KeyPath, int] = {}  # arrays of tables, and the index of their last one

    def scan(self) -> dict[KeyPath, Place]:
        table: KeyPath = ()
        self._skip(BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(BLANK)
        return self.places

    def _header(self) -> KeyPath:
        """Read `[a.b]` or `[[a.b]]`; return the path that its keys go under."""
        begin = self.at
        is_array = self.text.startswith("[[", begin)
        self.at += 2 if is_array else 1
        parts = self._dotted_key()
        self.at += 2 if is_array else 1
        path: KeyPath = ()
        for place, part in enumerate(parts, 1):
            path = (*path, part)
            self._note(path, Place(begin, begin, self.at))
            if is_array and place == len(parts):
                self.arrays[path] = self.arrays.get(path, -1) + 1
            if path in self.arrays:
                path = (*path, self.arrays[path])
                self._note(path, Place(begin, begin, self.at))
        # `[a.b]` may have made the place of `a`; the table's own header is the better one
        self.places[path] = Place(begin, begin, self.at)
        return path

    def _pair(self, table: KeyPath) -> None:
        """Read `key = value`, also inside an inline table."""
        begin = self.at
        path = table
        for part in self._dotted_key():
            path = (*path, part)
            self._note(path, Place(begin, begin, begin))
        self.at += 1  # the equals sign
        self._skip(SPACE)
        start = self.at
        self._value(path)
        self.places[path] = Place(begin, start, self.at)

    def _dotted_key(self) -> list[str]:
        parts = [self._key_part()]
        self._skip(SPACE)
        while self.text.startswith(".", self.at):
            self.at += 1
            parts.append(self._key_part())
            self._skip(SPACE)
        return parts

    def _key_part(self) -> str:
        self._skip(SPACE)
        if self.text[self.at] not in "\"'":
            return self._take(BARE_KEY)
        quoted: str = tomllib.loads(f"key = {self._take(STRING)}")["key"]
        return quoted

    def _value(self, path: KeyPath) -> None:
        first = self.text[self.at]
        if first in "\"'":
            self._take(STRING)
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            bare = self._take(SCALAR)
            self.at -= len(bare) - len(bare.rstrip())  # blanks before a comment

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._another("]"):
            item = (*path, index)
            begin = self.at
            self._value(item)
            self.places[item] = Place(begin, begin, self.at)
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._another("}"):
            self._pair(path)

    def _another(self, closing: str) -> bool:
        """Step to the next item, or past the closing bracket when there is none."""
        self._skip(BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._skip(BLANK)
        if self.text[self.at] != closing:
            return True
        self.at += 1
        return False

    def _note(self, path: KeyPath, place: Place) -> None:
        self.places.setdefault(path, place)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self.at = self._match(pattern).end()

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = self._match(pattern)
        self.at = found.end()
        return found[0]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"not TOML at character {self.at}")
        return found
