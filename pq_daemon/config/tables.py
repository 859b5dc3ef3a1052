"""The tables of config.toml: their names in a file, their models, and the field behind a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config import notation
from pq_daemon.config.settings import (
    DaemonSettings,
    QueueSettings,
    ServerSettings,
    StoreSettings,
    Table,
    UserSettings,
    WatchSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

    from pq_daemon.config.locating import KeyPath

TABLES: Final[Mapping[str, type[Table]]] = {
    "daemon": DaemonSettings,
    "store": StoreSettings,
    "server": ServerSettings,
    "user": UserSettings,
    "watch": WatchSettings,
    "queue": QueueSettings,
}
HEADERS: Final[Mapping[str, str]] = {
    "daemon": "[daemon]",
    "store": "[store]",
    "server": "[server]",
    "user": "[[user]]",
    "watch": "[[watch]]",
    "queue": "[queue.NAME]",
}
LISTS: Final = frozenset({"user", "watch"})
FIELDS: Final[Mapping[str, str]] = {"user": "users", "watch": "watches", "queue": "queues"}
"""Fields of Settings that a file calls otherwise."""


def inner_table(info: FieldInfo) -> type[Table] | None:
    """Return the model of a field that is a table itself, such as backoff."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def keys(model: type[Table]) -> list[str]:
    """Return the keys a file may write in a table."""
    return [name for name in model.model_fields if model is not QueueSettings or name != "name"]


def table_at(path: KeyPath) -> type[Table]:
    """Return the model of the table that holds the last key of a path."""
    first, *rest = path
    model = TABLES[str(first)]
    for step in rest[1:-1] if first in FIELDS else rest[:-1]:
        model = inner_table(model.model_fields[str(step)]) or model
    return model


def field_at(path: KeyPath) -> tuple[FieldInfo | None, bool]:
    """Return the field behind a path (None: a table, or unknown), and whether it goes on inside."""
    first, *rest = path
    model = TABLES[str(first)]
    steps = rest[1:] if first in FIELDS else rest
    info = None
    for place, step in enumerate(steps, 1):
        info = model.model_fields.get(str(step))
        if info is None:
            break
        inner = inner_table(info)
        if inner is None:
            return info, place < len(steps)
        model = inner
    return info, False


def key_text(path: KeyPath, raw: Mapping[str, Any]) -> str:
    """Write a path as a user would: a watch or user by its name, or by its number from 1."""
    text = ""
    for place, step in enumerate(path):
        if isinstance(step, str):
            text += f".{notation.key(step)}" if text else notation.key(step)
            continue
        name = _name(raw, str(path[0]), step) if place == 1 else None
        text += f".{notation.key(name)}" if name else f"[{step + 1}]"
    return text


def _name(raw: Mapping[str, Any], table: str, number: int) -> str | None:
    """Return the name of a watch or user, None when it has none of its own."""
    entries = raw.get(table)
    if not isinstance(entries, list) or not isinstance(entries[number], dict):
        return None
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    name = names[number]
    return name if isinstance(name, str) and name and names.count(name) == 1 else None
