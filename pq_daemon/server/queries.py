"""Query parameters, read strictly: a parameter, value or cursor we do not know is an error.

A filter that is silently ignored shows the wrong jobs to somebody who is about to act on them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from pq_daemon.errors import InvalidRequestError, NotFoundError
from pq_daemon.jobs.model import JobId, QueueName, WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import State
from pq_daemon.store.protocol import JobFilter

if TYPE_CHECKING:
    from collections.abc import Collection

    from multidict import MultiMapping

LIMIT: Final = 50
LIMIT_MOST: Final = 200
SEARCH_MOST: Final = 300
ID_MOST: Final = (1 << 63) - 1
NUMBER: Final = re.compile(r"[0-9]{1,19}")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
JOB_PARAMETERS: Final = (
    "state",
    "queue",
    "watch",
    "after",
    "before",
    "search",
    "limit",
    "cursor",
)

Word = TypeVar("Word", bound=StrEnum)


def job_filter(query: MultiMapping[str]) -> JobFilter:
    """Read a filter of jobs. Whether its queues and watches exist is for the caller to ask."""
    return JobFilter(
        states=words(query, "state", State),
        queues=frozenset(QueueName(name) for name in _names(query, "queue")),
        watches=frozenset(WatchName(name) for name in _names(query, "watch")),
        after=_moment(query, "after"),
        before=_moment(query, "before"),
        search=_search(query),
    )


def refuse_unknown(given: Collection[str], known: Collection[str], what: str) -> None:
    """Raise when a name is not among the known ones."""
    for name in given:
        if name not in known:
            raise InvalidRequestError(f'no {what} "{name}"; there are: {_list(known)}')


def refuse_parameters(query: MultiMapping[str], known: Collection[str]) -> None:
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise InvalidRequestError(f'unknown parameter "{unknown[0]}"; known are: {_list(known)}')


def words(query: MultiMapping[str], name: str, kind: type[Word]) -> frozenset[Word]:
    """Read a parameter that may repeat, each time a word of the enumeration."""
    found, known = query.getall(name, []), [one.value for one in kind]
    for word in found:
        if word not in known:
            raise InvalidRequestError(f'{name}: "{word}" is none of: {_list(known)}')
    return frozenset(kind(word) for word in found)


def limit(query: MultiMapping[str]) -> int:
    return number(query, "limit", LIMIT, 1, LIMIT_MOST)


def number(query: MultiMapping[str], name: str, default: int, least: int, most: int) -> int:
    text = once(query, name)
    if text is None:
        return default
    if not NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise InvalidRequestError(f'{name}: "{text}" is not a number from {least} to {most}')
    return int(text)


def once(query: MultiMapping[str], name: str) -> str | None:
    """Return a parameter that must not repeat."""
    found = query.getall(name, [])
    if len(found) > 1:
        raise InvalidRequestError(f"{name}: given {len(found)} times, once is allowed")
    return found[0] if found else None


def job_id(text: str) -> JobId:
    """Read an id from an address.

    Raises:
        NotFoundError: not a decimal number that could be one.

    """
    if not NUMBER.fullmatch(text) or int(text) > ID_MOST:
        raise NotFoundError(f'no job "{text}": ids are decimal numbers')
    return JobId(int(text))


def moment(text: str) -> Moment:
    """Read a time such as 2026-11-24T08:00:00.123Z; it must name its zone.

    Raises:
        ValueError: it is none.

    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time needs its zone: end it with Z")
    since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return Moment((since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000)


def _moment(query: MultiMapping[str], name: str) -> Moment | None:
    text = once(query, name)
    if text is None:
        return None
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise InvalidRequestError(
            f'{name}: "{text}" is not a time such as 2026-11-24T08:00:00Z'
        ) from None


def _names(query: MultiMapping[str], name: str) -> list[str]:
    found = query.getall(name, [])
    for one in found:
        if not NAME.fullmatch(one):
            raise InvalidRequestError(f'{name}: "{one}" cannot be a name')
    return found


def _search(query: MultiMapping[str]) -> str:
    text = once(query, "search") or ""
    if len(text) > SEARCH_MOST or "\0" in text or not _is_utf8(text):
        raise InvalidRequestError(f"search: at most {SEARCH_MOST} characters of text")
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _list(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
