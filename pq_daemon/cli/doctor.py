"""The doctor command: everything a support person asks, in one answer or one file.

A running daemon looks for itself: as its user, in its sandbox, on its own database. When none runs,
the command looks with the rights of whoever asks. `--bundle` packs the answer with the
configuration (secrets hidden), the figures and the last lines of the log.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.cli import place, printing
from pq_daemon.cli.checking import PATIENCE, tell
from pq_daemon.cli.client import Refused, Unreachable, connected
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.output import last_lines
from pq_daemon.config.masking import masked
from pq_daemon.errors import ConflictError, PqError, StoreError
from pq_daemon.inspection.findings import Finding, Grade, as_json, from_json

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from pq_daemon.cli.client import Api
    from pq_daemon.cli.command import Register
    from pq_daemon.config.settings import Settings

LOG_LINES: Final = 2000
ASKED: Final = ("/stats", "/queues", "/watches", "/consumers", "/config")
"""What a bundle has of a running daemon beside its findings. Figures, folders, no file names."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found; `answers` are of the daemon, empty when none ran."""

    findings: list[Finding]
    answers: dict[str, Any]


def add_commands(commands: Register) -> None:
    words = commands.add("doctor", doctor, "look at all that pq depends on; for support")
    words.add_argument("--bundle", metavar="FILE", help="write it all to a .tar.gz, too")


def doctor(arguments: argparse.Namespace) -> Exit:
    settings = place.configuration(arguments)
    seen = _seen(arguments, settings)
    if arguments.json:
        printing.answer(json.dumps({"items": as_json(seen.findings)}))
    else:
        tell(seen.findings)
    if arguments.bundle is not None:
        _pack(arguments.bundle, settings, seen)
        printing.complain(f"written {arguments.bundle}: look through it before you send it")
    return Exit.REFUSED if any(finding.is_bad for finding in seen.findings) else Exit.DONE


# --- looking -------------------------------------------------------------------------------------


def _seen(arguments: argparse.Namespace, settings: Settings) -> Seen:
    try:
        return asyncio.run(_asked(arguments))
    except Unreachable as error:
        if arguments.url is not None:
            raise
        return Seen([Finding(Grade.WARNING, "daemon", str(error)), *_looked(settings)], {})


async def _asked(arguments: argparse.Namespace) -> Seen:
    async with connected(place.socket(arguments), arguments.url) as api:
        items = (await api.get("/doctor", patience=PATIENCE)).body["items"]
        stats = (await api.get("/stats")).body
        health = Finding(_grade(stats), "daemon", stats["health"]["sentence"])
        answers = await _answers(api) if arguments.bundle is not None else {}
        return Seen([health, *from_json(items)], answers)


def _grade(stats: dict[str, Any]) -> Grade:
    grades = {"ok": Grade.OK, "warning": Grade.WARNING, "critical": Grade.BAD}
    return grades[stats["health"]["level"]]


async def _answers(api: Api) -> dict[str, Any]:
    found = {}
    for path in ASKED:
        try:
            found[path[1:]] = (await api.get(path)).body
        except Refused as error:
            found[path[1:]] = {"refused": str(error)}
    return found


def _looked(settings: Settings) -> list[Finding]:
    """Look without a daemon, also into the database, which nobody else uses then."""
    from pq_daemon.inspection import diagnosing  # noqa: PLC0415 - half the house
    from pq_daemon.store.engines import DATABASE, examine_closed  # noqa: PLC0415

    found = diagnosing.diagnose(settings)
    if not (settings.daemon.state_dir / DATABASE).exists():
        return found
    try:
        found += diagnosing.database(examine_closed(settings.daemon.state_dir))
    except StoreError as error:
        found.append(Finding(Grade.BAD, "database", str(error)))
    return found


# --- the bundle ----------------------------------------------------------------------------------


def _pack(name: str, settings: Settings, seen: Seen) -> None:
    """Write the bundle, for nobody but us, and over nothing."""
    lines = [f"{each.grade:<7}  {each.where}: {each.what}" for each in seen.findings]
    files = {
        "doctor.txt": "\n".join(lines) + "\n",
        "config.json": _json(masked(settings)),
        **{
            f"{what}.json": _json(answer)
            for what, answer in seen.answers.items()
            if what != "config"
        },
    }
    if "config" in seen.answers:
        files["config-in-force.json"] = _json(seen.answers["config"])
    log = _log(settings.daemon.log_file)
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConflictError(f"{name} is there already; it was left as it is") from None
    except OSError as error:
        raise PqError(f"cannot write {name}: {error.strerror}") from None
    with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as bundle:  # noqa: PTH123
        for path, text in files.items():
            _add(bundle, path, text.encode("utf-8", "backslashreplace"))
        if log:
            _add(bundle, "log.txt", log)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def _log(path: Path | None) -> bytes:
    try:
        with path.open("rb") if path else io.BytesIO() as file:
            return last_lines(file, LOG_LINES)
    except OSError:
        return b""


def _add(bundle: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"pq-doctor/{name}")
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    bundle.addfile(entry, io.BytesIO(content))
