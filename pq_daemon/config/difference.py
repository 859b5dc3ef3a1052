"""What a new configuration changes, key by key: what a reload applies, and what needs a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config import notation
from pq_daemon.config.settings import RESTART, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pq_daemon.config.settings import Settings

SECTIONS: Final = ("daemon", "store", "server")


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys as a user writes them: `daemon.workers`, `queue.files.timeout`, `watch.files`.

    A table that came or went is named as a whole.
    """

    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.live or self.restart)


def changes(old: Settings, new: Settings) -> Changes:
    """Compare two configurations. What is written otherwise but means the same is no change."""
    live: list[str] = []
    restart: list[str] = []
    for key, needs_restart in _changed(_tables(old), _tables(new)):
        (restart if needs_restart else live).append(key)
    return Changes(tuple(live), tuple(restart))


def with_restart_keys_of(old: Settings, new: Settings) -> Settings:
    """Return the new configuration as far as it holds without a restart."""
    kept = {name: _kept(getattr(old, name), getattr(new, name)) for name in SECTIONS}
    return new.model_copy(update=kept)


def _kept(old: Table, new: Table) -> Table:
    fields = type(new).model_fields.items()
    return new.model_copy(
        update={name: getattr(old, name) for name, info in fields if RESTART in info.metadata}
    )


def _tables(settings: Settings) -> dict[tuple[str, ...], Table]:
    """Return every table by the way a user names it."""
    return {
        **{(name,): getattr(settings, name) for name in SECTIONS},
        **{("user", user.name): user for user in settings.users},
        **{("watch", watch.name): watch for watch in settings.watches},
        **{("queue", name): queue for name, queue in settings.queues.items()},
    }


def _changed(
    old: Mapping[tuple[str, ...], Table], new: Mapping[tuple[str, ...], Table]
) -> Iterator[tuple[str, bool]]:
    for way in {**old, **new}:
        before, after = old.get(way), new.get(way)
        if before is None or after is None:
            yield notation.dotted(way), False
        else:
            yield from _fields(way, before, after)


def _fields(way: tuple[str, ...], before: Table, after: Table) -> Iterator[tuple[str, bool]]:
    for name, info in type(before).model_fields.items():
        here, there = getattr(before, name), getattr(after, name)
        path = (*way, name)
        if isinstance(here, Table) and isinstance(there, Table):
            yield from _fields(path, here, there)
        elif isinstance(here, dict) and isinstance(there, dict):
            yield from ((notation.dotted((*path, key)), False) for key in _differing(here, there))
        elif here != there:
            yield notation.dotted(path), RESTART in info.metadata


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]
