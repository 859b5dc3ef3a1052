"""Which names may become jobs: patterns and the names of files that are still being written. Pure.

A pattern without a slash is matched against the file's name, one with a slash against its path
relative to the watch; case does not matter. `*` and `?` stop at a slash, `**` does not, `[a-z]` and
`[!a-z]` are sets, and a pattern that ends with a slash means everything below that directory.
Names are bytes to the kernel; they are matched as text with surrogate escapes, so `*` also matches
what is not UTF-8. Directories are never judged, only files are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPORARY: Final = "temporary name"
EXCLUDED: Final = "excluded"
NOT_INCLUDED: Final = "not included"

OWN_PREFIX: Final = b".pq-"
"""Names of our own half-written files begin so; they are never looked at."""

TEMPORARY_ENDINGS: Final = (b"~", b".part", b".tmp", b".crdownload", b".filepart")
TEMPORARY_STARTS: Final = (b".", b"~$")
RSYNC_DIRECTORIES: Final = frozenset({b".~tmp~", b".rsync-partial"})
"""Where rsync keeps whole files until it renames them (--delay-updates, --partial-dir)."""

TOKENS: Final = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a watch lets through."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    builtin: bool = True

    def objection(self, relpath: bytes) -> str | None:
        """Return why a file is not taken, None when it is. `relpath` is relative to the watch."""
        if self.builtin and is_temporary(relpath):
            return TEMPORARY
        text = os.fsdecode(relpath)
        if matches_any(self.exclude, text):
            return EXCLUDED
        if "*" in self.include or matches_any(self.include, text):
            return None
        return NOT_INCLUDED


def is_temporary(relpath: bytes) -> bool:
    """Whether a name is one that programs give to files they have not finished."""
    *directories, name = relpath.split(b"/")
    folded = name.lower()
    return (
        folded.startswith(TEMPORARY_STARTS)
        or folded.endswith(TEMPORARY_ENDINGS)
        or not RSYNC_DIRECTORIES.isdisjoint(directories)
    )


def matches_any(patterns: Sequence[str], relpath: str) -> bool:
    name = relpath.rpartition("/")[2]
    return any(
        compiled(pattern).fullmatch(relpath if "/" in pattern else name) for pattern in patterns
    )


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    pattern = pattern.removeprefix("/")
    if pattern.endswith("/"):
        pattern += "**"
    parts = [_translated(token) for token in TOKENS.findall(pattern)]
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def _translated(token: str) -> str:
    fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token)
    if fixed is not None:
        return fixed
    if len(token) > 1:
        return _set(token[1:-1])
    return re.escape(token)


def _set(members: str) -> str:
    """Translate the inside of [...]; a range that runs backwards matches nothing."""
    negated = members.startswith("!")
    parts = re.findall(r".-.|.", members.removeprefix("!"), re.DOTALL)
    spans = [(part[0], part[-1]) for part in parts if part[0] <= part[-1]]
    inside = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in spans)
    if not inside:
        return "[^/]" if negated else r"(?!)"
    return f"(?!/)[{'^' if negated else ''}{inside}]"
