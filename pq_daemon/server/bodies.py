"""Bodies of requests: JSON objects and forms, read within a size and a time. No multipart.

A body that drips in is cut off after ten seconds; aiohttp itself would wait for ever.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import parse_qsl

from pq_daemon.server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

SIZE_MOST: Final = 128 * 1024
"""Bytes. A payload reaches its handler in one environment variable, which Linux limits to this."""

TIME_MOST_S: Final = 10.0
FIELDS_MOST: Final = 32
FORM: Final = "application/x-www-form-urlencoded"


async def json_object(request: web.Request, known: Collection[str]) -> dict[str, Any]:
    """Read a JSON object; no body at all is an empty one.

    Raises:
        Problem: 400 not an object, or a field we do not know; 408; 413; 415 not JSON.

    """
    if not request.can_read_body:
        return {}
    if request.content_type != "application/json":
        raise Problem(415, "unsupported_media_type", "the body must be application/json")
    found = _parsed(await _read(request))
    if not isinstance(found, dict):
        raise Problem(400, "invalid", "the body must be a JSON object")
    unknown = sorted(set(found) - set(known))
    if unknown:
        allowed = ", ".join(sorted(known)) or "none"
        raise Problem(400, "invalid", f'unknown field "{unknown[0]}"; known are: {allowed}')
    return found


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Problem(400, "invalid", "the body is not JSON as RFC 8259 has it") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


async def form(request: web.Request) -> dict[str, str]:
    """Read the fields of a posted form; the last of a name counts.

    Raises:
        Problem: 400, 408, 413, 415.

    """
    if not request.can_read_body:
        return {}
    if request.content_type != FORM:
        raise Problem(415, "unsupported_media_type", f"the body must be {FORM}")
    body = await _read(request)
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_MOST,
        )
    except ValueError:
        raise Problem(400, "invalid", "the body is not a form") from None
    return dict(pairs)


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(TIME_MOST_S):
            return await request.read()
    except TimeoutError:
        raise Problem(
            408, "too_slow", "the body came too slowly", headers={"Connection": "close"}
        ) from None
