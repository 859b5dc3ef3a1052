"""Commands about queues and the whole: queues, pause, resume, limit, stats."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pq_daemon.cli import printing
from pq_daemon.cli.command import asking
from pq_daemon.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.cli.client import Answer, Api
    from pq_daemon.cli.command import Register

STATES: Final = (
    "running", "queued", "retrying", "scheduled", "held", "succeeded", "failed", "cancelled",
)  # fmt: skip
HEADS: Final = ("QUEUE", "HANDLER", "LIMIT", *map(str.upper, STATES), "OLDEST", "NOTE")


def add_commands(commands: Register) -> None:
    commands.add("queues", asking(queues), "list the queues and what is in them")
    for name, summary in (
        ("pause", "let no new job of a queue start; running ones go on"),
        ("resume", "let the jobs of a paused queue start again"),
    ):
        words = commands.add(name, asking(switch), summary)
        which = words.add_mutually_exclusive_group(required=True)
        which.add_argument("queue", metavar="QUEUE", nargs="?")
        which.add_argument("--all", action="store_true", help="every queue")
        words.add_argument("--reason", metavar="TEXT", default="", help="kept with the change")
    words = commands.add("limit", asking(limit), "set how many jobs of a queue may run at once")
    words.add_argument("queue", metavar="QUEUE")
    how = words.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "limit", metavar="N", nargs="?", type=number, help="0: as many as there are slots"
    )
    how.add_argument("--reset", action="store_true", help="what the configuration says")
    words.add_argument("--reason", metavar="TEXT", default="", help="kept with the change")
    commands.add("stats", asking(stats), "show the totals since ever, and what goes on now")


async def queues(arguments: argparse.Namespace, api: Api) -> Exit:
    answer = await api.get("/queues")
    if arguments.json:
        printing.answer(answer.text)
    else:
        printing.table(HEADS, map(row, answer.body["items"]))
    return Exit.DONE


def row(queue: Mapping[str, Any]) -> tuple[object, ...]:
    counts = queue["counts"]
    return (
        queue["name"],
        queue["handler"],
        queue["concurrency"] or "all",
        *(counts[state] for state in STATES),
        printing.age(queue["oldest_queued_at"]),
        note(queue),
    )


def note(queue: Mapping[str, Any]) -> str:
    """What keeps a queue from going on, else when it will be through."""
    if queue["removed"]:
        return "removed"
    if queue["paused"]:
        pause = queue["paused"]
        return f"paused by {pause['by']}" + (f": {pause['reason']}" if pause["reason"] else "")
    backlog = queue.get("backlog")
    if not backlog:
        return ""
    return f"{backlog['done']} of {backlog['total']}{remaining(backlog['eta'])}"


def remaining(eta: list[float] | None) -> str:
    if not eta:
        return ""
    low, high = map(printing.duration, eta)
    return f", {low} left" if low == high else f", {low} to {high} left"


async def switch(arguments: argparse.Namespace, api: Api) -> Exit:
    """Pause or resume one queue, or all that are configured."""
    names = [arguments.queue]
    if arguments.all:
        listed = (await api.get("/queues")).body["items"]
        names = [queue["name"] for queue in listed if not queue["removed"]]
    for name in names:
        told(arguments, await _switched(arguments, api, name))
    return Exit.DONE


async def _switched(arguments: argparse.Namespace, api: Api, name: str) -> Answer:
    body = {"reason": arguments.reason} if arguments.reason else {}
    return await api.post(f"/queues/{quote(name, safe='')}/{arguments.command}", body)


def told(arguments: argparse.Namespace, answer: Answer) -> None:
    if arguments.json:
        printing.answer(answer.text)
        return
    queue = answer.body
    state = "paused" if queue["paused"] else "open"
    printing.say(f"{queue['name']}  {state}")


def number(text: str) -> int:
    if not (text.isdecimal() and text.isascii()):
        raise argparse.ArgumentTypeError(f'"{text}" is no number of jobs')
    return int(text)


async def limit(arguments: argparse.Namespace, api: Api) -> Exit:
    """Set a person's limit, which wins over the file's until that key in the file changes."""
    body: dict[str, object] = {"concurrency": None if arguments.reset else arguments.limit}
    if arguments.reason:
        body["reason"] = arguments.reason
    answer = await api.patch(f"/queues/{quote(arguments.queue, safe='')}", body)
    if arguments.json:
        printing.answer(answer.text)
    else:
        queue = answer.body
        most = queue["concurrency"] or "as many as there are slots"
        by = ", as the configuration says" if arguments.reset else ""
        printing.say(f"{queue['name']}  limit {most}{by}")
    return Exit.DONE


TOTALS: Final = ("accepted", "attempts", "succeeded", "failed", "cancelled", "retried", "lost")


async def stats(arguments: argparse.Namespace, api: Api) -> Exit:
    answer = await api.get("/stats")
    if arguments.json:
        printing.answer(answer.text)
        return Exit.DONE
    body = answer.body
    printing.say(body["health"]["sentence"])
    for check in body["health"]["checks"]:
        printing.say(f"  {check['level']}: {check['detail']}")
    printing.say()
    printing.facts(now(body))
    printing.say()
    printing.say("since ever:")
    rows = [*body["by_queue"].items(), ("all", body["totals"])]
    printing.table(
        ("QUEUE", *map(str.upper, TOTALS)),
        ((name, *(of.get(total, 0) for total in TOTALS)) for name, of in rows),
        elastic=0,
    )
    return Exit.DONE


def now(body: Mapping[str, Any]) -> dict[str, object]:
    """What goes on at this moment."""
    waiting = {state: count for state, count in body["counts"].items() if count}
    rates = body["rates"] or {}
    return {
        "daemon": f"{body['phase']}, up {printing.age(body['started_at'])}",
        "jobs": ", ".join(f"{count} {state}" for state, count in waiting.items()) or "none",
        "slots": f"{body['slots']['busy']} of {body['slots']['total']} busy",
        "oldest queued": printing.age(body["oldest_queued_at"]),
        "finished": f"{rates['finished']:g} a second" if rates else "",
    }
