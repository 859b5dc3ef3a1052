"""Commands about jobs: add, jobs, show, and the moves a person may ask for."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.cli import printing
from pq_daemon.cli.client import Refused
from pq_daemon.cli.command import asking
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.moments import Later, later
from pq_daemon.cli.paging import add_page_options, pages
from pq_daemon.cli.paths import submitted
from pq_daemon.jobs.order import Priority
from pq_daemon.jobs.states import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.cli.client import Api
    from pq_daemon.cli.command import Register

MOVES: Final = {
    "retry": "queue finished jobs once more, with fresh attempts",
    "cancel": "cancel jobs; running ones end when their last process is gone",
    "hold": "keep waiting jobs from running until they are released",
    "release": "let held jobs go on",
    "run-now": "run scheduled and retrying jobs without waiting for their time",
}
HEADS: Final = ("ID", "STATE", "QUEUE", "NAME", "ATTEMPT", "AGE", "NOTE")
LAST_LINES: Final = 10


def add_commands(commands: Register) -> None:
    _add_words(commands.add("add", add, "submit a path or a payload as a job"))
    _list_words(commands.add("jobs", asking(jobs), "list jobs, newest first"))
    show_words = commands.add("show", asking(show), "show a job, its attempts and last output")
    show_words.add_argument("id", metavar="ID", type=job_id)
    for name, summary in MOVES.items():
        words = commands.add(name, asking(move), summary)
        words.add_argument("ids", metavar="ID", nargs="+", type=job_id)


def _add_words(words: argparse.ArgumentParser) -> None:
    words.add_argument("queue", metavar="QUEUE")
    words.add_argument("path", metavar="PATH", nargs="?", help="a file in a watch or submit root")
    words.add_argument("--payload", metavar="JSON", type=json_text, help="instead of a path")
    words.add_argument("--priority", choices=[str(priority) for priority in Priority])
    words.add_argument(
        "--at", metavar="TIME", type=later, help='"+10m", "18:30" or "2030-01-31T08:00" (local)'
    )
    words.add_argument("--key", metavar="KEY", help="a job with this key is accepted once")
    words.add_argument("--hold", action="store_true", help="accept it, run it when released")


def _list_words(words: argparse.ArgumentParser) -> None:
    words.add_argument("--state", action="append", choices=[str(state) for state in State])
    words.add_argument("--queue", action="append", metavar="QUEUE")
    words.add_argument("--watch", action="append", metavar="WATCH")
    words.add_argument("--search", metavar="TEXT", help="part of a path, or exactly an id or key")
    add_page_options(words)


def job_id(text: str) -> str:
    if not text.isdecimal() or not text.isascii():
        raise argparse.ArgumentTypeError(f'"{text}" is no job id: ids are whole numbers')
    return text


def json_text(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"this is not JSON: {error}") from None
    return text


def add(arguments: argparse.Namespace) -> Exit:
    if (arguments.path is None) == (arguments.payload is None):
        printing.complain("add takes a PATH or a --payload, one of them")
        return Exit.USAGE
    return asking(submit)(arguments)


async def submit(arguments: argparse.Namespace, api: Api) -> Exit:
    answer = await api.post("/jobs", submission(arguments))
    if arguments.json:
        printing.answer(answer.text)
    else:
        job = answer.body
        printing.say(f"{job['id']}  {job['state']}  {named(job)}")
    return Exit.DONE


def submission(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body of POST /jobs: only what was said."""
    body: dict[str, Any] = {"queue": arguments.queue}
    if arguments.path is None:
        body["payload"] = json.loads(arguments.payload)
    else:
        body |= submitted(arguments.path)
    at: Later | None = arguments.at
    said = {
        "priority": arguments.priority,
        "run_at": at.text if at else None,
        "key": arguments.key,
        "hold": arguments.hold or None,
    }
    return body | {name: value for name, value in said.items() if value is not None}


async def jobs(arguments: argparse.Namespace, api: Api) -> Exit:
    wanted = {
        "state": arguments.state,
        "queue": arguments.queue,
        "watch": arguments.watch,
        "search": arguments.search,
    }
    await pages(arguments, api, "/jobs", wanted, HEADS, row, elastic=3)
    return Exit.DONE


def row(job: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        job["id"],
        job["state"],
        job["queue"],
        named(job),
        f"{job['attempt']} ({job['spent']}/{job['max_attempts']})" if job["attempt"] else "",
        printing.age(job["created_at"]),
        note(job),
    )


def named(job: Mapping[str, Any]) -> str:
    """The file of a job; a payload job has none."""
    return str(job["relpath"] or job["name"] or "(payload)")


def note(job: Mapping[str, Any]) -> str:
    """The one thing to know about a job now."""
    if job["cancel_requested_at"] and not job["finished_at"]:
        return "cancelling"
    if job["state"] == State.RUNNING:
        return printing.percent(job["progress"])
    if job["state"] in {State.SCHEDULED, State.RETRYING} and job["run_at"]:
        return "; ".join(filter(None, (printing.age(job["run_at"]), job["error"])))
    reason = job["reason"] if job["reason"] != job["state"] else None
    return ": ".join(filter(None, (reason, job["error"])))


async def show(arguments: argparse.Namespace, api: Api) -> Exit:
    answer = await api.get(f"/jobs/{arguments.id}")
    if arguments.json:
        printing.answer(answer.text)
        return Exit.DONE
    job = answer.body
    printing.facts(known(job))
    attempts = (await api.get(f"/jobs/{arguments.id}/attempts")).body["items"]
    attempts.sort(key=lambda attempt: attempt["attempt"])
    if attempts:
        printing.say()
        printing.table(ATTEMPT_HEADS, map(attempt_row, attempts))
        await last_lines(arguments.id, attempts[-1]["attempt"], api)
    return Exit.DONE


def known(job: Mapping[str, Any]) -> dict[str, object]:
    """What there is to say about a job, in the words of the pages."""
    said = job["reason"] and job["reason"] != job["state"]
    state = f"{job['state']} ({job['reason']})" if said else job["state"]
    return {
        "job": job["id"],
        "state": state,
        "queue": job["queue"],
        "watch": job["watch"],
        "path": job["path"],
        "size": printing.size(job["size"]),
        "sha256": job["sha256"],
        "priority": job["priority"],
        "key": job["key"],
        "run": job["run"],
        "attempt": f"{job['attempt']}, {job['spent']} of {job['max_attempts']} spent",
        "accepted": printing.moment(job["created_at"]),
        "runs at": printing.moment(job["run_at"]) if not job["finished_at"] else "",
        "started": printing.moment(job["started_at"]),
        "finished": printing.moment(job["finished_at"]),
        "cancel asked": printing.moment(job["cancel_requested_at"]),
        "progress": printing.percent(job["progress"]),
        "error": job["error"],
        "result": "" if job["result"] is None else json.dumps(job["result"], ensure_ascii=False),
    }


ATTEMPT_HEADS: Final = ("ATTEMPT", "OUTCOME", "REASON", "EXIT", "SLOT", "STARTED", "TOOK", "OUTPUT")


def attempt_row(attempt: Mapping[str, Any]) -> tuple[object, ...]:
    signal = attempt["signal"]
    output = attempt["output"]
    return (
        attempt["attempt"],
        attempt["outcome"] or "running",
        attempt["reason"],
        f"signal {signal}" if signal else attempt["exit_code"],
        attempt["slot"],
        printing.moment(attempt["started_at"]),
        printing.between(attempt["started_at"], attempt["finished_at"]),
        printing.size(output["stdout"] + output["stderr"]) if output else "",
    )


async def last_lines(job: str, attempt: int, api: Api) -> None:
    """Write the end of an attempt's output, always escaped."""
    _, content = await api.content(f"/jobs/{job}/attempts/{attempt}/output")
    if not content.strip():
        return
    lines = content.splitlines()
    printing.say()
    if len(lines) > LAST_LINES:
        printing.say(f"last lines of attempt {attempt} (all of it: pq logs {job}):")
    else:
        printing.say(f"output of attempt {attempt}:")
    for line in lines[-LAST_LINES:]:
        printing.say("  " + printing.harmless(line))


async def move(arguments: argparse.Namespace, api: Api) -> Exit:
    """Ask for one move of each job; one that is refused does not keep the others from theirs."""
    status = Exit.DONE
    for job in dict.fromkeys(arguments.ids):
        try:
            answer = await api.post(f"/jobs/{job}/{arguments.command}")
        except Refused as error:
            if arguments.json:
                printing.answer(error.text)
            printing.complain(f"{arguments.command} {job}: {error}")
            status = Exit.REFUSED
            continue
        if arguments.json:
            printing.answer(answer.text)
        else:
            printing.say(moved(answer.body))
    return status


def moved(job: Mapping[str, Any]) -> str:
    if job["cancel_requested_at"] and not job["finished_at"]:
        return f"{job['id']}  running, asked to end  {named(job)}"
    return f"{job['id']}  {job['state']}  {named(job)}"
