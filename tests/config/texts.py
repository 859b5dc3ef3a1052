"""Short ways to ask what a configuration's text means or is refused for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.config.loading import ConfigurationError, parse

if TYPE_CHECKING:
    from pq_daemon.config import QueueSettings, Settings, WatchSettings
    from pq_daemon.config.loading import Problem

SOURCE = Path("/srv/pq/config.toml")
QUEUE = '[queue.files]\ncommand = ["true"]\n'
HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$GII7MgkkwWaKOG+FfhOrGQ"
    "$F+nPOQ/y98uRzFgo5jFVg3i3A9cTLPptZ0sC3OdYbeY"
)
"""Of the demo password."""


def read(text: str, source: Path = SOURCE) -> Settings:
    return parse(text, source)


def read_queue(lines: str) -> QueueSettings:
    return read(f"{QUEUE}{lines}\n").queues["files"]


def read_watch(lines: str) -> WatchSettings:
    return read(f'[[watch]]\nname = "files"\npath = "in"\n{lines}\n{QUEUE}').watches[0]


def refused(text: str, source: Path = SOURCE) -> list[Problem]:
    """Return the problems of a text; none when it is accepted."""
    try:
        parse(text, source)
    except ConfigurationError as error:
        return list(error.problems)
    return []


def refused_queue(lines: str) -> list[Problem]:
    return refused(f"{QUEUE}{lines}\n")


def refused_watch(lines: str) -> list[Problem]:
    return refused(f'[[watch]]\nname = "files"\npath = "in"\n{lines}\n{QUEUE}')


def only(problems: list[Problem]) -> Problem:
    """Return the one problem; more or fewer fail the test."""
    assert len(problems) == 1, [problem.sentence for problem in problems]
    return problems[0]
