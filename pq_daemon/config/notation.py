"""Values and keys as TOML writes them: for messages, and for the lines that `pq passwd` adds.

Control characters come out escaped, so a message stays one line whatever a file contains.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
SHORT: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
LONGEST: Final = 80


def string(text: str) -> str:
    """Write a basic string."""
    return f'"{"".join(SHORT.get(char) or _visible(char) for char in text)}"'


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"  # noqa: PLR2004


def key(part: str) -> str:
    """Write one part of a key, quoted when it must be."""
    return part if BARE.fullmatch(part) else string(part)


def dotted(parts: Iterable[str]) -> str:
    return ".".join(key(part) for part in parts)


def value(found: Any) -> str:
    """Write a value that tomllib read, on one line."""
    if isinstance(found, str):
        return string(found)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, dict):
        inner = ", ".join(f"{key(name)} = {value(item)}" for name, item in found.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(found, (list, tuple)):
        return f"[{', '.join(value(item) for item in found)}]"
    return str(found)


def short(text: str) -> str:
    """Cut a long text."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
