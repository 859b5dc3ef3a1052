"""The tail command: events as they happen, by long poll, until Ctrl-C.

It names the last event it has seen, so nothing is lost between two questions; where something was
(the ring was too short, the daemon began anew) it says so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.cli import place as where
from pq_daemon.cli import printing
from pq_daemon.cli.client import Unreachable, connected

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping
    from typing import NoReturn

    from pq_daemon.cli.client import Answer, Api
    from pq_daemon.cli.command import Register
    from pq_daemon.cli.exits import Exit

WAIT: Final = 30
PATIENCE: Final = 45.0
BEFORE: Final = 10
"""Events from before that are shown first."""

AGAIN: Final = 1.0
"""Seconds before a daemon that went away is asked again."""


def add_commands(commands: Register) -> None:
    words = commands.add("tail", tail, "follow what happens, event by event")
    words.set_defaults(follow=True)


def tail(arguments: argparse.Namespace) -> Exit:
    return asyncio.run(tailed(arguments))


async def tailed(arguments: argparse.Namespace) -> NoReturn:
    """Follow from now on. Once a daemon has answered, one that goes away is waited for."""
    reached: str | None = None
    while True:
        try:
            async with connected(where.socket(arguments), arguments.url) as api:
                async for after in followed(arguments, api, reached):
                    reached = after
                    printing.flush()
        except Unreachable as error:
            if reached is None:
                raise
            printing.complain(f"{error}; trying again")
            await asyncio.sleep(AGAIN)


async def followed(
    arguments: argparse.Namespace, api: Api, after: str | None
) -> AsyncIterator[str]:
    """Tell what happens after an event, or from now; yields the place that was reached."""
    if after is None:
        latest = await api.get("/events")
        if not arguments.json:
            for event in latest.body["items"][-BEFORE:]:
                printing.say(sentence(event))
        after = place(latest)
        yield after
    while True:
        answer = await api.get("/events", {"after": after, "wait": WAIT}, patience=PATIENCE)
        tell(arguments, answer)
        after = place(answer)
        yield after


def place(answer: Answer) -> str:
    """The last event that the answer knows of."""
    return f"{answer.body['epoch']}:{answer.body['seq']}"


def tell(arguments: argparse.Namespace, answer: Answer) -> None:
    if answer.body["gap"]:
        printing.complain(
            "some events are missing here: the daemon started anew, or they were too many"
        )
    if arguments.json and (answer.body["items"] or answer.body["gap"]):
        printing.answer(answer.text)
    elif not arguments.json:
        for event in answer.body["items"]:
            printing.say(sentence(event))


def sentence(event: Mapping[str, Any]) -> str:
    job = f"job {event['job']}" if event["job"] else ""
    said = " ".join(f"{name}={value}" for name, value in event["data"].items() if value is not None)
    parts = (f"{event['type']:<18}", job, event["queue"], said)
    return "  ".join((printing.clock(event["at"]), *(part for part in parts if part)))
