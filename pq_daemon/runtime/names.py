"""Bytes that are names, shown to people: file names are bytes, and any bytes."""

from __future__ import annotations

import os


def shown(name: bytes) -> str:
    """Return text for a page, a log or JSON: what is not UTF-8 is escaped, never refused."""
    return os.fsdecode(name).encode("utf-8", "backslashreplace").decode("utf-8")


def is_text(name: bytes) -> bool:
    """Whether `shown` gives back the very bytes."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def one_line(text: str) -> str:
    """Escape what would break a line or drive a terminal: controls, separators, directions."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
