"""Commands about one path: why it is (not) picked up, and having it processed once more.

`explain` asks the daemon, which sees what it sees: its user's rights, its sandbox, its ledger. When
none runs, it looks for itself with the rights of whoever asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pq_daemon.cli import place, printing
from pq_daemon.cli.client import Refused, Unreachable, connected
from pq_daemon.cli.command import asking
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.paths import submitted
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from pq_daemon.cli.client import Api
    from pq_daemon.cli.command import Register

NO_DAEMON: Final = "seen with your own rights and without the ledger, as no daemon could be asked"


def add_commands(commands: Register) -> None:
    words = commands.add("explain", explain, "say why a path is a job, waits, or is left alone")
    words.add_argument("path", metavar="PATH")
    words = commands.add("process", asking(process), "run a file once more that had its job")
    words.add_argument("path", metavar="PATH")


# --- explain -------------------------------------------------------------------------------------


def explain(arguments: argparse.Namespace) -> Exit:
    try:
        seen, text = asyncio.run(_asked(arguments))
    except Unreachable as error:
        if arguments.url is not None:
            raise
        seen, text = _looked(arguments)
        _show(arguments, seen, text)
        printing.complain(f"{NO_DAEMON} ({error})")
    else:
        _show(arguments, seen, text)
    return Exit.DONE


def _show(arguments: argparse.Namespace, seen: Mapping[str, Any], text: str) -> None:
    if arguments.json:
        printing.answer(text)
        return
    for line in told(seen):
        printing.say(line)


async def _asked(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    async with connected(place.socket(arguments), arguments.url) as api:
        answer = await api.get("/explain", submitted(arguments.path))
        return answer.body, answer.text


def _looked(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pq_daemon.inspection import explaining  # noqa: PLC0415 - half the house

    path = os.path.abspath(os.fsencode(arguments.path))  # noqa: PTH100 - names are bytes
    seen = explaining.explain(path, place.configuration(arguments))
    return seen, json.dumps(seen)


def told(seen: Mapping[str, Any]) -> Iterator[str]:
    """Say what was found, the answer first."""
    yield seen["path"]
    yield f"  {verdict(seen)}"
    yield ""
    for step in seen["steps"]:
        yield f"  {'ok' if step['good'] else 'NO':<3} {step['about']:<8} {step['words']}"
    if seen.get("watch_status") and not seen["watch_status"].startswith("ok"):
        yield f"  NO  watch    the watch is {seen['watch_status']}"
    yield from _ledger(seen)
    yield from _would(seen["would"])


def verdict(seen: Mapping[str, Any]) -> str:
    """The one sentence that answers the question."""
    ledger, jobs = seen.get("ledger"), seen.get("jobs") or []
    failed = next((step for step in seen["steps"] if not step["good"]), None)
    accepted = ledger is not None and ledger["state"] == FileState.ACCEPTED
    if failed is not None and not (accepted and failed["about"] in {"content", "settle"}):
        waits = seen["would"] is not None
        return f"{'It waits' if waits else 'It is not picked up'}: {failed['words']}."
    if ledger is None:
        return "Nothing keeps it from becoming a job."
    if accepted:
        job = f"job {ledger['job']}" if ledger["job"] else "a job"
        state = f" ({jobs[0]['state']})" if jobs and jobs[0]["id"] == ledger["job"] else ""
        return (
            f"It has had {job}{state}. The same content makes no second one; to run it once more: "
            f"pq process {shlex.quote(seen['path'])}"
        )
    return f"It is {ledger['state']}: {ledger['reason'] or 'being looked at'}."


def _ledger(seen: Mapping[str, Any]) -> Iterator[str]:
    if "ledger" not in seen or seen["watch"] is None:
        return
    entry = seen["ledger"]
    yield ""
    if entry is None:
        yield "  ledger   it has not been seen yet"
        return
    why = f", {entry['reason']}" if entry["reason"] else ""
    yield f"  ledger   {entry['state']}{why}, since {printing.moment(entry['changed_at'])}"
    for job in seen["jobs"]:
        reason = f" ({job['reason']})" if job["reason"] else ""
        error = f": {job['error']}" if job["error"] else ""
        yield f"  job      {job['id']} {job['state']}{reason}, queue {job['queue']}{error}"


def _would(would: Mapping[str, Any] | None) -> Iterator[str]:
    if would is None:
        return
    yield ""
    yield f"  queue    {would['queue']}, priority {would['priority']}{', held' * would['held']}"
    if would["problem"]:
        yield f"  problem  {would['problem']}"
    if would["runs"]:
        yield f"  runs     {shlex.join(would['runs'])}"
    if would["output"]:
        yield f"  output   {would['output']}"


# --- process -------------------------------------------------------------------------------------


async def process(arguments: argparse.Namespace, api: Api) -> Exit:
    """Have an accepted file processed once more, by the watch that looks at it."""
    seen = (await api.get("/explain", submitted(arguments.path))).body
    if seen["watch"] is None:
        printing.complain(f"{seen['path']}: {seen['steps'][0]['words']}")
        return Exit.REFUSED
    watch = quote(seen["watch"], safe="")
    try:
        answer = await api.post(f"/watches/{watch}/files/process", _file(seen))
    except Refused as error:
        if error.status == NOT_FOUND:
            printing.complain(f"{error}; why: pq explain {shlex.quote(arguments.path)}")
            return Exit.REFUSED
        raise
    if arguments.json:
        printing.answer(answer.text)
    else:
        job = answer.body
        printing.say(f"{job['id']}  {job['state']}  {job['relpath']}")
    return Exit.DONE


NOT_FOUND: Final = 404


def _file(seen: Mapping[str, Any]) -> dict[str, str]:
    """The path below its watch, as bytes where text would not do."""
    if "path_b64" not in seen:
        return {"relpath": seen["relpath"]}
    return {"relpath_b64": seen["relpath_b64"]}
