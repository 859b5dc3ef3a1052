"""Every key that was promised exists, with the promised default; and no other does."""

from __future__ import annotations

from typing import Any, Final

import pytest

from pq_daemon.config.settings import LATER, RESTART, Settings
from pq_daemon.config.tables import TABLES, field_at, inner_table, keys
from tests.config.texts import HASH, QUEUE, read

NEEDED: Final = object()

PROMISED: Final[dict[str, Any]] = {
    "daemon.state_dir": "data/state",
    "daemon.workers": "auto",
    "daemon.drain_timeout": "30s",
    "daemon.log_level": "info",
    "daemon.log_format": "auto",
    "daemon.log_file": "",
    "daemon.node": "",
    "daemon.submit_roots": [],
    "store.url": "sqlite",
    "store.synchronous": "full",
    "store.retention.succeeded": "7d",
    "store.retention.cancelled": "7d",
    "store.retention.failed": "30d",
    "store.retention.audit": "400d",
    "store.retention.output_total": "2GiB",
    "server.listen": "127.0.0.1:8501",
    "server.tls_cert": "",
    "server.tls_key": "",
    "server.behind_proxy": False,
    "server.public_url": "",
    "server.trusted_proxies": [],
    "server.allowed_hosts": [],
    "server.ops_public": "off",
    "server.socket_group": "",
    "server.metrics_public": False,
    "user.name": NEEDED,
    "user.role": "viewer",
    "user.password_hash": NEEDED,
    "watch.name": NEEDED,
    "watch.path": NEEDED,
    "watch.queue": "files",
    "watch.include": ["*"],
    "watch.exclude": [],
    "watch.builtin_excludes": True,
    "watch.recursive": True,
    "watch.settle": "auto",
    "watch.marker": "",
    "watch.min_size": "1B",
    "watch.existing": "run",
    "watch.identify": "content",
    "watch.duplicates": "run",
    "watch.claim": "in-place",
    "watch.on_success": "keep",
    "watch.on_failure": "keep",
    "watch.rescan": "60s",
    "watch.priority": "",  # the queue's, whose default is normal
    "queue.command": NEEDED,
    "queue.python": "",
    "queue.http": "",
    "queue.send": "job",
    "queue.concurrency": 0,
    "queue.max_attempts": 5,
    "queue.timeout": "30m",
    "queue.kill_grace": "10s",
    "queue.backoff.base": "15s",
    "queue.backoff.factor": 4,
    "queue.backoff.max": "1h",
    "queue.backoff.jitter": 0.2,
    "queue.priority": "normal",
    "queue.paused": False,
    "queue.hold_new": False,
    "queue.success_codes": [0],
    "queue.discard_codes": [65],
    "queue.retry_codes": [75],
    "queue.output": "",
    "queue.on_conflict": "number",
    "queue.output_limit": "1MiB",
    "queue.memory_limit": "",
    "queue.nice": 0,
    "queue.io": "normal",
    "queue.umask": "0022",
    "queue.env": {},
    "queue.env_file": "",
    "queue.cwd": "",
    "queue.python_path": [],
    "queue.interpreter": "",
    "queue.isolation": "process",
}
RESTARTING: Final = {
    "daemon.state_dir",
    "store.url",
    "store.synchronous",
    "server.listen",
    "server.socket_group",
}
RESERVED: Final = {"daemon.node", "server.metrics_public"}
"""Those that the contract itself calls later; more are refused until their feature comes."""


def least() -> Settings:
    return read(
        f'[[user]]\nname = "admin"\npassword_hash = "{HASH}"\n'
        f'[[watch]]\nname = "files"\npath = "in"\n{QUEUE}'
    )


def path_of(key: str) -> tuple[str | int, ...]:
    """Return the path of a key in the least configuration."""
    table, *rest = key.split(".")
    member: dict[str, str | int] = {"user": 0, "watch": 0, "queue": "files"}
    return (table, member[table], *rest) if table in member else (table, *rest)


def value_of(key: str) -> Any:
    tables = least().model_dump(mode="json")
    node: Any = {
        **tables,
        "user": tables["users"],
        "watch": tables["watches"],
        "queue": tables["queues"],
    }
    for step in path_of(key):
        node = node[step]
    return "" if node is None else node


@pytest.mark.parametrize(
    ("key", "default"),
    [(key, default) for key, default in PROMISED.items() if default is not NEEDED],
)
def test_every_promised_key_has_its_default(key: str, default: Any) -> None:
    wanted = f"/srv/pq/{default}" if key == "daemon.state_dir" else default
    assert value_of(key) == ("1m" if wanted == "60s" else wanted)


def test_no_other_keys_exist() -> None:
    found = set()
    for table, model in TABLES.items():
        for key in keys(model):
            inner = inner_table(model.model_fields[key])
            found |= (
                {f"{table}.{key}.{name}" for name in keys(inner)} if inner else {f"{table}.{key}"}
            )
    assert found == set(PROMISED)


def test_the_marks_are_the_promised_ones() -> None:
    marked: dict[object, set[str]] = {RESTART: set(), LATER: set()}
    for key in PROMISED:
        info, _ = field_at(path_of(key))
        assert info is not None
        for mark in (RESTART, LATER):
            if mark in info.metadata:
                marked[mark].add(key)
    assert marked[RESTART] == RESTARTING
    assert marked[LATER] >= RESERVED
