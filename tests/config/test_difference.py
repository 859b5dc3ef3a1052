"""What a reload is told has changed, in the words of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pq_daemon.config.difference import Changes, changes, with_restart_keys_of
from pq_daemon.config.loading import ConfigurationError, check_in_force
from tests.config.texts import HASH, QUEUE, only, read

OLD = f"""\
[daemon]
workers = 4
[server]
ops_public = "off"
[[user]]
name = "admin"
password_hash = "{HASH}"
[[watch]]
name = "files"
path = "in"
{QUEUE}timeout = "60s"
env = {{ A = "1", B = "2" }}
[queue."a.b"]
command = ["true"]
"""


def changed(*replacements: tuple[str, str]) -> Changes:
    new = OLD
    for old, other in replacements:
        assert old in new
        new = new.replace(old, other)
    return changes(read(OLD), read(new))


def test_nothing_changed() -> None:
    assert not changed()
    assert not changed(('timeout = "60s"', "timeout = '1m' # the same, written otherwise"))
    assert not changed(('path = "in"', 'path = "./in"\nqueue = "files"'))


def test_each_key_is_named() -> None:
    found = changed(
        ("workers = 4", "workers = 5"),
        ('"off"', '"full"'),
        ('path = "in"', 'path = "in"\nsettle = "1s"'),
        ('timeout = "60s"', 'backoff = { base = "1s" }'),
        ('B = "2"', 'C = "2"'),
        ('name = "admin"', 'name = "admin"\nrole = "manager"'),
    )
    assert found == Changes(
        live=(
            "daemon.workers",
            "server.ops_public",
            "user.admin.role",
            "watch.files.settle",
            "queue.files.timeout",
            "queue.files.backoff.base",
            "queue.files.env.B",
            "queue.files.env.C",
        )
    )


def test_tables_that_come_and_go_are_named_as_a_whole() -> None:
    found = changed(('[queue."a.b"]', "[queue.c]"), ('name = "admin"', 'name = "zoe"'))
    assert found.live == ("user.admin", 'queue."a.b"', "user.zoe", "queue.c")


def test_keys_that_need_a_restart_are_told_apart() -> None:
    server = '[server]\nlisten = "127.0.0.1:1"\nsocket_group = "pq"'
    found = changed(
        ("workers = 4", 'workers = 5\nstate_dir = "elsewhere"'),
        ("[server]", f'[store]\nsynchronous = "normal"\n{server}'),
    )
    assert found.live == ("daemon.workers",)
    assert found.restart == (
        "daemon.state_dir",
        "store.synchronous",
        "server.listen",
        "server.socket_group",
    )
    assert found


def test_until_the_restart_the_old_values_hold() -> None:
    old = read(OLD)
    new = read(OLD.replace("workers = 4", 'workers = 5\nstate_dir = "elsewhere"'))
    kept = with_restart_keys_of(old, new)
    assert kept.daemon.state_dir == Path("/srv/pq/data/state")
    assert kept.daemon.workers == 5
    assert kept.queues == new.queues
    assert kept.text == new.text
    assert changes(old, kept) == Changes(live=("daemon.workers",))
    check_in_force(kept)


def test_a_new_watch_may_not_take_the_state_directory_that_is_still_in_use() -> None:
    new = OLD.replace("workers = 4", 'state_dir = "elsewhere"').replace('"in"', '"data"')
    kept = with_restart_keys_of(read(OLD), read(new))
    with pytest.raises(ConfigurationError) as caught:
        check_in_force(kept)
    problem = only(list(caught.value.problems))
    assert (problem.key, problem.line) == ("watch.files.path", 10)
    assert problem.hint == 'it holds "/srv/pq/data/state"'
