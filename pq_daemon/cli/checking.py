"""The check command: the configuration, what it needs, and how a running daemon sees the same."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from pq_daemon.cli import place, printing
from pq_daemon.cli.client import Refused, Unreachable, connected
from pq_daemon.cli.exits import Exit
from pq_daemon.inspection.findings import Finding, as_json, from_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

PATIENCE = 60.0
"""Seconds a daemon has to look through its folders."""


def check(arguments: argparse.Namespace) -> Exit:
    from pq_daemon.inspection import checking  # noqa: PLC0415 - half the house

    settings = place.configuration(arguments)
    ours = list(checking.findings(settings))
    theirs = asyncio.run(_asked(arguments))
    if arguments.json:
        said = None if theirs is None else as_json(theirs)
        printing.answer(json.dumps({"findings": as_json(ours), "daemon": said}))
    else:
        printing.say(f"{settings.source}: the configuration is valid")
        tell(ours)
        if theirs is not None:
            _tell_the_difference(ours, theirs)
    bad = any(finding.is_bad for finding in (*ours, *(theirs or ())))
    return Exit.REFUSED if bad else Exit.DONE


def tell(findings: Iterable[Finding]) -> None:
    for finding in findings:
        printing.say(f"{finding.grade:<7}  {finding.where}: {finding.what}")


async def _asked(arguments: argparse.Namespace) -> list[Finding] | None:
    """Ask a running daemon for what it finds; None when there is none that answers us."""
    try:
        async with connected(place.socket(arguments), arguments.url) as api:
            return from_json((await api.get("/check", patience=PATIENCE)).body["items"])
    except (Unreachable, Refused):
        return None


def _tell_the_difference(ours: Sequence[Finding], theirs: Sequence[Finding]) -> None:
    different = [finding for finding in theirs if finding not in ours]
    if not different:
        printing.say("The running daemon finds the same.")
        return
    printing.say("The running daemon finds, with its own rights and configuration:")
    tell(different)
