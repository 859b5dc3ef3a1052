"""Judging a daemon from outside: what its handlers wrote down, what its store says when it is down.

The recorder is a command that appends lines to a file with O_APPEND and fsync, so a line that is
there was written, whatever was killed. The store is read only while no daemon holds it.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

RECORDER: Final = """
import os, sys, time

record, path = sys.argv[1], sys.argv[2]
name = os.path.basename(path)

def write_down(what):
    line = f"{what} {os.environ['PQ_JOB_ID']} {os.environ['PQ_ATTEMPT']} {os.getpid()}\\n"
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.fsync(descriptor)
    os.close(descriptor)

write_down("start")
if name.startswith("slow"):
    time.sleep(0.1 + (hash(name) % 8) / 10)
write_down("end")
"""


@dataclass(frozen=True, slots=True)
class Line:
    what: str
    job: int
    attempt: int
    pid: int


class Recorder:
    """The command, and what it wrote down."""

    def __init__(self, directory: Path) -> None:
        self.script = directory / "recorder.py"
        self.record = directory / "record.txt"
        self.script.write_text(RECORDER)
        self.record.touch()

    def queue(self, name: str = "files", more: str = "") -> str:
        """The queue that runs it, as TOML."""
        command = [sys.executable, "-S", "-E", str(self.script), str(self.record), "{path}"]
        words = ", ".join(f"'{word}'" for word in command)
        return f"[queue.{name}]\ncommand = [{words}]\n{more}\n"

    def lines(self) -> list[Line]:
        found = []
        for line in self.record.read_text().splitlines():
            what, job, attempt, pid = line.split()
            found.append(Line(what, int(job), int(attempt), int(pid)))
        return found


def look(state_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask the store of a daemon that is down."""
    with closing(sqlite3.connect(state_dir / "queue.db")) as connection:
        return connection.execute(sql).fetchall()


def trouble(state_dir: Path, lines: list[Line]) -> list[str]:
    """Every promise that is broken, in words. The daemon must be down."""
    return [
        *_trouble_in_the_store(state_dir),
        *_trouble_between(lines, look(state_dir, "SELECT job, number, outcome FROM attempts")),
    ]


def _trouble_in_the_store(state_dir: Path) -> list[str]:
    questions = {
        "live jobs": "SELECT id, state FROM jobs WHERE finished_at IS NULL",
        "counts": """SELECT queue, state, n FROM counts WHERE n <> (SELECT count(*) FROM jobs
            WHERE jobs.queue = counts.queue AND jobs.state = counts.state)""",
        "file counts": """SELECT watch, state, n FROM file_counts WHERE n <> (SELECT count(*)
            FROM ledger WHERE ledger.watch = file_counts.watch
            AND ledger.state = file_counts.state)""",
        "attempts with holes": """SELECT id, attempt FROM jobs
            WHERE attempt <> (SELECT count(*) FROM attempts WHERE job = jobs.id)
            OR attempt <> coalesce((SELECT max(number) FROM attempts WHERE job = jobs.id), 0)""",
        "success that was not the end": """SELECT job, number FROM attempts AS a JOIN jobs ON
            jobs.id = a.job WHERE outcome = 'succeeded' AND number <> jobs.attempt""",
        "two jobs for one version": """SELECT relpath, sha256, count(*) FROM jobs
            WHERE relpath IS NOT NULL AND run = 1 GROUP BY root, relpath, sha256
            HAVING count(*) > 1""",
        "ledger rows without their job": """SELECT path FROM ledger WHERE state = 'accepted'
            AND job NOT IN (SELECT id FROM jobs)""",
    }
    found = [
        f"{name}: {rows[:5]}" for name, sql in questions.items() if (rows := look(state_dir, sql))
    ]
    check = look(state_dir, "PRAGMA integrity_check")
    return found if check == [("ok",)] else [*found, f"integrity: {check}"]


def _trouble_between(lines: list[Line], attempts: list[tuple[Any, ...]]) -> list[str]:
    outcomes = {(job, number): outcome for job, number, outcome in attempts}
    started, ended = _pairs(lines, "start"), _pairs(lines, "end")
    found = [
        f"succeeded without having run to its end: {attempt}"
        for attempt, outcome in outcomes.items()
        if lines and outcome == "succeeded" and attempt not in ended
    ]
    found += [f"ran without a record: {attempt}" for attempt in started - set(outcomes)]
    counted: defaultdict[tuple[int, int], int] = defaultdict(int)
    for line in lines:
        if line.what == "start":
            counted[line.job, line.attempt] += 1
    found += [f"one attempt started twice: {attempt}" for attempt, n in counted.items() if n > 1]
    return found


def _pairs(lines: list[Line], what: str) -> set[tuple[int, int]]:
    return {(line.job, line.attempt) for line in lines if line.what == what}
