"""Cursors of lists: opaque to clients, and bound to the filter they were made for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from pq_daemon.errors import InvalidRequestError


def cursor(place: list[Any], bound_to: object) -> str:
    """Make a cursor that continues after `place` in the list that `bound_to` describes."""
    text = json.dumps([place, _seal(place, bound_to)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place(given: str, bound_to: object) -> list[Any]:
    """Return the place of a cursor.

    Raises:
        InvalidRequestError: not one of ours, or made for another filter.

    """
    try:
        text = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
        found, seal = json.loads(text)
        sealed = isinstance(found, list) and seal == _seal(found, bound_to)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        sealed = False
        found = []
    if not sealed:
        raise InvalidRequestError("the cursor is not one that this list gave for this filter")
    return list(found)


def _seal(place: list[Any], bound_to: object) -> str:
    return hashlib.sha256(repr((place, bound_to)).encode()).hexdigest()[:12]
