"""The rules between fields and between tables. Each is a generator of what it finds wrong.

They look at a draft that may be incomplete: a rule that rests on a value which was refused already
keeps silent, so that one mistake gives one message. What holds for queues is in queues.py, what
holds for directories in directories.py.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config import describing, hints, notation, passwords
from pq_daemon.config.describing import NOT_YET
from pq_daemon.config.directories import check_directories
from pq_daemon.config.drafting import Finding
from pq_daemon.config.masking import shown_value
from pq_daemon.config.queues import check_queues
from pq_daemon.config.settings import LATER, Table
from pq_daemon.config.values import host_and_port, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from pq_daemon.config.drafting import Draft
    from pq_daemon.config.locating import KeyPath
    from pq_daemon.config.settings import Settings

HOST: Final = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
EXPOSING: Final = ("tls_cert", "behind_proxy", "public_url", "allowed_hosts")


def check(draft: Draft) -> Iterator[Finding]:
    """Find everything in a draft that breaks a rule."""
    return chain(
        _reserved(draft),
        _store(draft),
        _server(draft),
        _users(draft),
        _watches(draft),
        _contents(draft),
        check_queues(draft),
        check_directories(draft),
    )


def _reserved(draft: Draft) -> Iterator[Finding]:
    for path, info, value in _fields(draft.settings):
        if LATER not in info.metadata or not draft.is_sound(*path):
            continue
        if value != info.get_default(call_default_factory=True, validated_data={}):
            yield Finding(path, _shown(draft, *path), describing.field(info))


def _fields(settings: Settings) -> Iterator[tuple[KeyPath, FieldInfo, Any]]:
    tables: list[tuple[KeyPath, Table]] = [
        (("daemon",), settings.daemon),
        (("store",), settings.store),
        (("server",), settings.server),
        *((("user", place), user) for place, user in enumerate(settings.users)),
        *((("watch", place), watch) for place, watch in enumerate(settings.watches)),
        *((("queue", name), queue) for name, queue in settings.queues.items()),
    ]
    while tables:
        path, table = tables.pop()
        for name, info in type(table).model_fields.items():
            value = getattr(table, name)
            if isinstance(value, Table):
                tables.append(((*path, name), value))
            else:
                yield (*path, name), info, value


def _store(draft: Draft) -> Iterator[Finding]:
    if draft.settings.store.url != "sqlite":
        allowed = f'only "sqlite": anything else is {NOT_YET}'
        yield Finding(("store", "url"), _shown(draft, "store", "url"), allowed)


def _server(draft: Draft) -> Iterator[Finding]:
    server = draft.settings.server
    if not is_loopback(host_and_port(server.listen)[0]):
        yield Finding(
            ("server", "listen"),
            _shown(draft, "server", "listen"),
            'an address of this machine alone, such as "127.0.0.1:8501"',
            f"any other needs tls_cert or behind_proxy, which are {NOT_YET}",
        )
    for place, host in enumerate(server.allowed_hosts):
        if not HOST.fullmatch(host):
            path = ("server", "allowed_hosts", place)
            yield Finding(path, notation.string(host), 'a host name such as "files.example.org"')


def _users(draft: Draft) -> Iterator[Finding]:
    yield from _duplicates(draft, "user", [user.name for user in draft.settings.users])
    server = draft.settings.server
    exposing = [key for key in EXPOSING if getattr(server, key)]
    if not is_loopback(host_and_port(server.listen)[0]):
        exposing.append("listen")
    for place, user in enumerate(draft.settings.users):
        path = ("user", place, "password_hash")
        if not draft.is_sound(*path):
            continue
        if not passwords.is_hash(user.password_hash):
            info = type(user).model_fields["password_hash"]
            yield Finding(path, shown_value(path, ""), describing.field(info), _renew(user.name))
        elif exposing and passwords.uses_demo_password(user):
            allowed = f"a password of your own, because of server.{exposing[0]}"
            yield Finding(path, "the demo password", allowed, _renew(user.name))


def _renew(user: str) -> str:
    return f'use "pq passwd {user}"'


def _watches(draft: Draft) -> Iterator[Finding]:
    watches = draft.settings.watches
    yield from _duplicates(draft, "watch", [watch.name for watch in watches])
    known = draft.written("queue")
    if known is not None and not isinstance(known, dict):
        return
    for place, watch in enumerate(watches):
        path: KeyPath = ("watch", place, "queue")
        if not draft.written(*path):
            path = ("watch", place, "name")  # which is the queue's name then
        if draft.is_sound(*path) and watch.queue not in (known or {}):
            hint = hints.nearest(watch.queue, known or {})
            allowed = "the name of a queue" if path[-1] == "queue" else "a queue of the same name"
            missing = f"there is no [queue.{notation.key(watch.queue)}]"
            yield Finding(
                path, _shown(draft, *path), allowed, "; ".join(filter(None, [missing, hint]))
            )


def _contents(draft: Draft) -> Iterator[Finding]:
    for place, watch in enumerate(draft.settings.watches):
        if watch.duplicates == "skip" and watch.identify == "stat":
            path: KeyPath = ("watch", place, "duplicates")
            if draft.is_sound(*path) and draft.is_sound("watch", place, "identify"):
                allowed = 'only "run" with identify = "stat"'
                hint = "nothing but the content tells that two files are the same"
                yield Finding(path, _shown(draft, *path), allowed, hint)


def _duplicates(draft: Draft, table: str, names: list[str]) -> Iterator[Finding]:
    for place, name in enumerate(names):
        path = (table, place, "name")
        if name in names[:place] and draft.is_sound(*path):
            yield Finding(path, notation.string(name), f"a name that no other [[{table}]] has")


def _shown(draft: Draft, *path: str | int) -> str:
    return shown_value(path, draft.written(*path))
