"""The logs command: what an attempt's handler wrote, or what the daemon logs.

Into a pipe go the exact bytes; on a terminal everything but line ends and tabs is escaped.
"""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.cli import place, printing
from pq_daemon.cli.command import asking
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.jobs import job_id
from pq_daemon.cli.paging import count
from pq_daemon.jobs.states import FINAL

if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from typing import BinaryIO

    from pq_daemon.cli.client import Api
    from pq_daemon.cli.command import Register

LOOK_AGAIN: Final = 0.3
"""Seconds between two looks when following."""

LINES: Final = 100
CHUNK: Final = 64 * 1024


def add_commands(commands: Register) -> None:
    words = commands.add("logs", logs, "show a job's output, or the daemon's log without an ID")
    words.add_argument("id", metavar="ID", nargs="?", type=job_id)
    words.add_argument("--attempt", metavar="N", type=count, help="instead of the last one")
    words.add_argument("--stream", choices=("stdout", "stderr"), help="one of the two alone")
    words.add_argument("--follow", action="store_true", help="go on until it ends, or Ctrl-C")
    words.add_argument(
        "--lines", metavar="N", type=count, default=LINES, help=f"of the daemon's log; {LINES}"
    )


def logs(arguments: argparse.Namespace) -> Exit:
    if arguments.id is None and (arguments.attempt or arguments.stream):
        printing.complain("--attempt and --stream are of a job: name its ID")
        return Exit.USAGE
    if arguments.id is None:
        return asyncio.run(daemon_log(arguments))
    return asking(follow if arguments.follow else show)(arguments)


async def show(arguments: argparse.Namespace, api: Api) -> Exit:
    """Write the output of one attempt, as far as there is one."""
    job = (await api.get(f"/jobs/{arguments.id}")).body
    attempt = arguments.attempt or job["attempt"]
    if attempt:
        await more(arguments, api, attempt, 0)
    else:
        printing.complain(f"job {arguments.id} is {job['state']} and has not run yet")
    return Exit.DONE


async def follow(arguments: argparse.Namespace, api: Api) -> Exit:
    """Write the output as it comes, attempt after attempt, until the job has ended."""
    attempt = arguments.attempt or 0
    seen = 0
    while True:
        job = (await api.get(f"/jobs/{arguments.id}")).body
        current = arguments.attempt or job["attempt"]
        if current and not attempt:
            attempt = current
        if attempt:
            seen = await more(arguments, api, attempt, seen)
        if current > attempt:
            attempt, seen = attempt + 1, 0
            printing.complain(f"attempt {attempt}")
        elif over(job, arguments.attempt):
            return Exit.DONE
        else:
            await asyncio.sleep(LOOK_AGAIN)


def over(job: dict[str, Any], attempt: int | None) -> bool:
    """Whether there will be no more of what is followed. `job` was read before the output."""
    if job["state"] in FINAL:
        return True
    if attempt is None:
        return False
    return bool(
        job["attempt"] > attempt or (job["attempt"] == attempt and job["state"] != "running")
    )


async def more(arguments: argparse.Namespace, api: Api, attempt: int, seen: int) -> int:
    """Write what an attempt's output has beyond `seen` bytes; return how many are seen then."""
    status, content = await api.content(
        f"/jobs/{arguments.id}/attempts/{attempt}/output",
        {"stream": arguments.stream},
        headers={"Range": f"bytes={seen}-"} if seen else None,
    )
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return seen
    is_part = status == HTTPStatus.PARTIAL_CONTENT or not seen
    fresh = content if is_part else content[seen:]
    printing.raw(fresh)
    return seen + len(fresh)


async def daemon_log(arguments: argparse.Namespace) -> Exit:
    """Write the end of the daemon's log file."""
    settings = place.readable(arguments)
    file = settings.daemon.log_file if settings else None
    if file is None:
        printing.complain(
            "the configuration names no daemon.log_file; under systemd: journalctl -u pq"
        )
        return Exit.REFUSED
    try:
        opened = file.open("rb")
    except OSError as error:
        printing.complain(f"cannot read {file}: {error.strerror}")
        return Exit.REFUSED
    with opened:
        printing.raw(last_lines(opened, arguments.lines))
        return await follow_file(file, opened) if arguments.follow else Exit.DONE


def last_lines(opened: BinaryIO, wanted: int) -> bytes:
    """Read the last lines of a file, from its end; it is left at the end."""
    end = opened.seek(0, os.SEEK_END)
    content = b""
    while end and content.count(b"\n") <= wanted:
        start = max(0, end - CHUNK)
        opened.seek(start)
        content = opened.read(end - start) + content
        end = start
    opened.seek(0, os.SEEK_END)
    return b"".join(content.splitlines(keepends=True)[-wanted:])


async def follow_file(file: Path, opened: BinaryIO) -> Exit:
    """Go on with what is appended; a log that was rotated goes on in its new file."""
    current = opened
    try:
        while True:
            content = current.read(CHUNK)
            if content:
                printing.raw(content)
            elif replaced(file, current):
                current.close()
                current = file.open("rb")
            else:
                await asyncio.sleep(LOOK_AGAIN)
    finally:
        current.close()


def replaced(file: Path, opened: BinaryIO) -> bool:
    try:
        return not os.path.samestat(file.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:  # between two names of a rotation
        return False
