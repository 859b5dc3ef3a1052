"""The small languages inside config.toml: durations and sizes, as validated pydantic types."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator

DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def seconds(value: object) -> float:
    """Seconds of a duration such as "500ms", "10s", "5m", "2h", "7d".

    Raises:
        ValueError: it is not a duration.

    """
    if isinstance(value, float):  # our own defaults
        return value
    found = DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError('a duration such as "500ms", "10s", "5m", "2h" or "7d"')
    return float(found[1]) * SECONDS[found[2]]


def size(value: object) -> int:
    """Bytes of a size such as "64KiB" or "10MB".

    Raises:
        ValueError: it is not a size.

    """
    if isinstance(value, int) and not isinstance(value, bool):  # our own defaults
        return value
    found = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError('a size such as "0B", "64KiB" or "10MB"')
    return int(float(found[1]) * BYTES[found[2]])


Duration = Annotated[float, BeforeValidator(seconds)]
"""Seconds, written as a duration."""

Size = Annotated[int, BeforeValidator(size)]
"""Bytes, written as a size."""
