"""The one shape of a command: a function of its arguments that returns an exit status.

Most of them ask the daemon something; `asking` opens the way to it and closes it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from pq_daemon.cli import place
from pq_daemon.cli.client import Api, connected

if TYPE_CHECKING:
    import argparse

    from pq_daemon.cli.exits import Exit

Act = Callable[["argparse.Namespace"], "Exit"]
Ask = Callable[["argparse.Namespace", Api], Coroutine[Any, Any, "Exit"]]


class Register(Protocol):
    """Where a family's commands are put down."""

    def add(self, name: str, act: Act, summary: str) -> argparse.ArgumentParser: ...


def asking(ask: Ask) -> Act:
    """Make a command of a coroutine that needs the daemon."""

    def act(arguments: argparse.Namespace) -> Exit:
        return asyncio.run(_asked(ask, arguments))

    return act


async def _asked(ask: Ask, arguments: argparse.Namespace) -> Exit:
    async with connected(place.socket(arguments), arguments.url) as api:
        return await ask(arguments, api)
