"""Commands about watched folders: watches, files, rescan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pq_daemon.cli import printing
from pq_daemon.cli.command import asking
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.paging import add_page_options, pages

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from pq_daemon.cli.client import Api
    from pq_daemon.cli.command import Register

COUNTS: Final = ("seen", "waiting", "ignored", "accepted", "vanished", "missed_by_events")
WATCH_HEADS: Final = (
    "WATCH", "STATUS", "QUEUE", "SEEN", "WAITING", "IGNORED", "ACCEPTED", "VANISHED", "MISSED",
    "SCANNED", "PATH", "NOTE",
)  # fmt: skip
FILE_HEADS: Final = ("STATE", "SIZE", "CHANGED", "JOB", "NAME", "REASON")
STATES: Final = ("waiting", "ignored", "accepted", "vanished")


def add_commands(commands: Register) -> None:
    commands.add("watches", asking(watches), "list the watched folders and their counts")
    words = commands.add(
        "files", asking(files), "list the files a watch has seen, and why they wait"
    )
    words.add_argument("watch", metavar="WATCH")
    words.add_argument("--state", action="append", choices=STATES)
    add_page_options(words)
    scan = commands.add("rescan", asking(rescan), "look through a watched folder now")
    scan.add_argument("watch", metavar="WATCH")


async def watches(arguments: argparse.Namespace, api: Api) -> Exit:
    answer = await api.get("/watches")
    if arguments.json:
        printing.answer(answer.text)
    else:
        printing.table(WATCH_HEADS, map(watch_row, answer.body["items"]), elastic=-2)
    return Exit.DONE


def watch_row(watch: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        watch["name"],
        watch["status"],
        watch["queue"],
        *(watch["counts"][name] for name in COUNTS),
        printing.age(watch["last_scan"]),
        watch["path"],
        watch["reason"],
    )


async def files(arguments: argparse.Namespace, api: Api) -> Exit:
    path = f"/watches/{quote(arguments.watch, safe='')}/files"
    await pages(arguments, api, path, {"state": arguments.state}, FILE_HEADS, file_row, elastic=4)
    return Exit.DONE


def file_row(file: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        file["state"],
        printing.size(file["size"]),
        printing.age(file["changed_at"]),
        file["job"],
        file["relpath"],
        file["reason"],
    )


async def rescan(arguments: argparse.Namespace, api: Api) -> Exit:
    answer = await api.post(f"/watches/{quote(arguments.watch, safe='')}/rescan")
    if arguments.json:
        printing.answer(answer.text)
    else:
        printing.say(f"{arguments.watch}  is being scanned; see: pq watches")
    return Exit.DONE
