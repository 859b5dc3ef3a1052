"""From what tomllib read to settings, as far as they go, with everything found wrong on the way.

The first mistake must not hide the others. So a value that is refused is noted and taken out (a
needed one gets a stand-in) until the rest is valid: that draft is what the rules between fields are
then checked against, and `is_sound` tells them which parts of it are as they were written.

pydantic reads JSON here: in that mode it is strict about types (5 is not "5", 1 is not true) and
still takes lists for tuples and texts for paths.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, time
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from pq_daemon.config import describing, hints
from pq_daemon.config.masking import shown_value
from pq_daemon.config.settings import NAME_PATTERN, NAME_WORDS, Settings
from pq_daemon.config.tables import FIELDS, LISTS, TABLES, field_at
from pq_daemon.config.values import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from pq_daemon.config.locating import KeyPath
    from pq_daemon.config.problems import Kind

ROUNDS: Final = 5
KEYS: Final = {field: key for key, field in FIELDS.items()}
DATE: Final = {"date": 0}
"""In place of a date: no key takes one, and no key takes this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose place in the text is still a path."""

    path: KeyPath
    found: str
    allowed: str
    hint: str = ""
    kind: Kind = "value"


@dataclass(frozen=True, slots=True)
class Draft:
    """Settings as far as they are valid, and what was written."""

    settings: Settings
    raw: Mapping[str, Any]
    findings: tuple[Finding, ...]

    def written(self, *path: str | int) -> Any:
        """Return the value that was written there, None when there is none."""
        node, whole = _walk(self.raw, path)
        return _at(self.raw, node) if whole else None

    def is_sound(self, *path: str | int) -> bool:
        """Whether nothing was found wrong with the value, around it, or in it."""
        return not any(
            path[: len(bad.path)] == bad.path or bad.path[: len(path)] == path
            for bad in self.findings
        )


def draft(raw: Mapping[str, Any], source: Path, text: str) -> Draft:
    """Make settings of what tomllib read."""
    findings: list[Finding] = []
    data = _arrange(raw, findings)
    context = {"directory": source.absolute().parent}
    for _ in range(ROUNDS):
        try:
            settings = Settings.model_validate_json(json.dumps(data), strict=True, context=context)
        except ValidationError as error:
            for path, errors in _by_path(raw, error).items():
                finding = _finding(raw, path, errors)
                findings.append(finding)
                _take_out(data, finding)
        else:
            return Draft(_filled_in(settings, source.absolute(), text), raw, tuple(findings))
    raise AssertionError(f"no draft of {source} became valid")


def _filled_in(settings: Settings, source: Path, text: str) -> Settings:
    watches = tuple(
        watch if watch.queue else watch.model_copy(update={"queue": watch.name})
        for watch in settings.watches
    )
    # defaults are not validated, so this one was not resolved
    state_dir = source.parent / settings.daemon.state_dir
    daemon = settings.daemon.model_copy(update={"state_dir": state_dir})
    return settings.model_copy(
        update={"daemon": daemon, "watches": watches, "source": source, "text": text}
    )


# --- the tables of the file become the fields of the model ---------------------------------------


def _arrange(raw: Mapping[str, Any], findings: list[Finding]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in TABLES:
            findings.append(_unknown((key,)))
        elif isinstance(value, list if key in LISTS else dict):
            data[FIELDS.get(key, key)] = _plain(value)
        else:
            words, hint = hints.table(key)
            findings.append(Finding((key,), shown_value((key,), value), words, hint))
    data["queues"] = _queues(data.get("queues", {}), raw, findings)
    return data


def _queues(
    tables: Mapping[str, Any], raw: Mapping[str, Any], findings: list[Finding]
) -> dict[str, Any]:
    queues = {}
    for name, table in tables.items():
        path = ("queue", name)
        if not isinstance(table, dict):
            words, hint = hints.table("queue")
            findings.append(Finding(path, shown_value(path, raw["queue"][name]), words, hint))
            continue
        if not re.search(NAME_PATTERN, name):
            findings.append(Finding(path, shown_value(path, name), NAME_WORDS))
        if "name" in table:
            findings.append(_unknown((*path, "name")))
        queues[name] = {**table, "name": name}
    return queues


def _plain(value: Any) -> Any:
    """Make it JSON, and a copy to take things out of."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return DATE if isinstance(value, (date, time)) else value


# --- what pydantic refuses becomes findings ------------------------------------------------------


def _by_path(raw: Mapping[str, Any], error: ValidationError) -> dict[KeyPath, list[ErrorDetails]]:
    """Group the errors (one for each choice of a union) by the value that was written."""
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        first, *rest = details["loc"]
        loc = (KEYS.get(str(first), first), *rest)
        path, _ = _walk(raw, loc)
        if details["type"] == "missing":
            path = loc
        found.setdefault(path, []).append(details)
    return {path: errors for path, errors in found.items() if not _is_around(path, found)}


def _is_around(path: KeyPath, others: Iterable[KeyPath]) -> bool:
    """Whether something in the value is wrong, too: that then says it better."""
    return any(len(other) > len(path) and other[: len(path)] == path for other in others)


def _finding(raw: Mapping[str, Any], path: KeyPath, errors: Sequence[ErrorDetails]) -> Finding:
    kinds = {details["type"]: details for details in errors}
    unknown = kinds.get("extra_forbidden")
    if unknown and len(unknown["loc"]) == len(path):
        return _unknown(path)
    info, in_list = field_at(path)
    if info is None:  # the table itself
        words, hint = hints.table(str(path[0]))
        return Finding(path, shown_value(path, _at(raw, path)), words, hint)
    allowed = describing.item(info) if in_list else describing.field(info)
    if "missing" in kinds:
        return Finding(path, "missing", allowed, kind="missing")
    value = _at(raw, path)
    own = kinds[REFUSED].get("ctx", {}).get("hint", "") if REFUSED in kinds else ""
    hint = own or hints.value(path, value, info)
    return Finding(path, shown_value(path, value), allowed, hint)


def _unknown(path: KeyPath) -> Finding:
    known, hint = hints.known_keys(path)
    return Finding(path, "unknown key", known, hint, kind="unknown")


# --- what was refused is taken out ---------------------------------------------------------------


def _take_out(data: dict[str, Any], finding: Finding) -> None:
    """Remove the refused value, or the whole list it is in; put a stand-in where one is needed."""
    first, *rest = finding.path
    path: KeyPath = (FIELDS.get(str(first), first), *rest)
    node: Any = data
    for place, step in enumerate(path[:-1]):
        if isinstance(node, dict) and step not in node:
            return  # with what was around it
        if isinstance(node[step], list) and place > 0:
            path = path[: place + 1]
            break
        node = node[step]
    key: Any = path[-1]
    info, _ = field_at(finding.path)
    if isinstance(node, list):  # a whole [[watch]] or [[user]]
        node[key] = {name: _stand_in(name, key) for name in _needed(str(first))}
    elif info is not None and info.is_required():
        node[key] = _stand_in(str(key), finding.path[1])
    else:
        node.pop(key, None)


def _needed(table: str) -> list[str]:
    return [name for name, info in TABLES[table].model_fields.items() if info.is_required()]


def _stand_in(field: str, number: str | int) -> str:
    return {"path": "/", "password_hash": "$argon2id$"}.get(field, f"unnamed-{number}")


# --- paths ---------------------------------------------------------------------------------------


def _walk(raw: Mapping[str, Any], path: Sequence[str | int]) -> tuple[KeyPath, bool]:
    """Follow a path as far as something was written there; tell whether that is all of it."""
    node: Any = raw
    for place, step in enumerate(path):
        is_there = (isinstance(node, dict) and step in node) or (
            isinstance(node, list) and isinstance(step, int) and step < len(node)
        )
        if not is_there:
            return tuple(path[:place]), False
        node = node[step]
    return tuple(path), True


def _at(raw: Mapping[str, Any], path: KeyPath) -> Any:
    node: Any = raw
    for step in path:
        node = node[step]
    return node
