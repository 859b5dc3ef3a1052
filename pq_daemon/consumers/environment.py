"""What a command is given: its arguments, its environment, where its output goes. Pure, in bytes.

File names are bytes, so arguments and variables are too; each value stays inside one argument.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.placeholders import PlaceholderError, expand
from pq_daemon.runtime.systemd import OWN_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pq_daemon.jobs.model import Job

PASSED_ON: Final = frozenset({b"PATH", b"USER", b"LANG", b"TZ"})
DEFAULT_PATH: Final = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LITERAL: Final = re.compile(r"(?:[^{}]|\{\{|\}\})+")
NAME_MOST: Final = 255
"""Bytes of one name, on every filesystem we know."""


def base_environment(ours: Mapping[bytes, bytes], home: bytes) -> dict[bytes, bytes]:
    """Return what every command gets from the daemon's own environment, and nothing more."""
    passed = {n: v for n, v in ours.items() if n in PASSED_ON or n.startswith(b"LC_")}
    return {b"PATH": DEFAULT_PATH, b"LANG": b"C.UTF-8"} | passed | {b"HOME": home}


def values(job: Job, output: bytes | None) -> dict[str, bytes]:
    """Return the values of the placeholders; one that has none here is left out."""
    found = {"job_id": b"%d" % job.id, "attempt": b"%d" % job.attempt}
    if output is not None:
        found["output"] = output
    if job.file is not None:
        path, relpath = job.file.path, job.file.relpath
        parent, name = os.path.split(path)
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 - names are bytes
        found |= {"path": path, "name": name, "stem": stem, "suffix": suffix, "parent": parent}
        # A file at the root of its watch: "." keeps "{relparent}/x" a relative path.
        found |= {"relpath": relpath, "relparent": os.path.dirname(relpath) or b"."}  # noqa: PTH120
    return found


def arguments(command: Sequence[str], given: Mapping[str, bytes]) -> list[bytes]:
    """Return argv.

    Raises:
        PlaceholderError: a placeholder has no value for this job.

    """
    return [_filled(argument, given) for argument in command]


def _filled(template: str, given: Mapping[str, bytes]) -> bytes:
    if "{" in template or "}" in template:
        return expand(template, given)
    return os.fsencode(template)


def environment(
    base: Mapping[bytes, bytes],
    job: Job,
    *,
    own: Mapping[str, str],
    given: Mapping[str, bytes],
    token: str,
    scratch: bytes,
) -> dict[bytes, bytes]:
    """Return the environment of an attempt. `own` are the queue's variables, still templates.

    Raises:
        PlaceholderError: a placeholder has no value for this job.

    """
    file = job.file
    ours = {
        b"PQ_JOB_ID": b"%d" % job.id,
        b"PQ_RUN": b"%d" % job.run,
        b"PQ_ATTEMPT": b"%d" % job.attempt,
        b"PQ_LAST_ATTEMPT": b"1" if job.is_last_attempt else b"0",
        b"PQ_QUEUE": job.queue.encode(),
        b"PQ_WATCH": file.watch.encode() if file and file.watch else b"",
        b"PQ_PATH": file.path if file else b"",
        b"PQ_NAME": given.get("name", b""),
        b"PQ_RELPATH": file.relpath if file else b"",
        b"PQ_SHA256": file.sha256.hex().encode() if file and file.sha256 else b"",
        b"PQ_OUTPUT": given.get("output", b""),
        b"PQ_PAYLOAD": (job.payload or "").encode(),
        b"PQ_TOKEN": token.encode(),
    }
    asked = {
        os.fsencode(name): _filled(value, given)
        for name, value in own.items()
        if name not in OWN_VARIABLES
    }
    return {**base, b"TMPDIR": scratch, **asked, **ours}


def output_target(template: str, given: Mapping[str, bytes], directory: bytes) -> bytes:
    """Return where the output goes: an absolute path under the template's fixed beginning.

    Args:
        template: the queue's `output`.
        given: the values of the placeholders.
        directory: where a relative template begins.

    Raises:
        PlaceholderError: a placeholder has no value, or the values lead elsewhere (`..`).

    """
    raw = os.path.join(directory, expand(template, given))  # noqa: PTH118 - names are bytes
    target = os.path.normpath(raw)
    prefix = _fixed_directory(template, directory)
    name = os.path.basename(target)  # noqa: PTH119 - names are bytes
    if os.path.basename(raw) in {b"", b".", b".."} or not name:  # noqa: PTH119
        raise PlaceholderError(f"{template!r} names no file here: {raw!r}")
    if os.path.commonpath([target, prefix]) != prefix:
        raise PlaceholderError(f"{template!r} would leave its directory here: {target!r}")
    if len(name) > NAME_MOST:
        raise PlaceholderError(f"the output's name is {len(name)} bytes long, 255 is the most")
    return target


def _fixed_directory(template: str, directory: bytes) -> bytes:
    """Return the directory that stands in the template before its first placeholder."""
    beginning = _LITERAL.match(template)
    fixed = beginning[0].replace("{{", "{").replace("}}", "}") if beginning else ""
    if not fixed:
        return b"/"  # "{parent}/..." begins where the file lies
    return os.path.normpath(os.path.join(directory, os.path.dirname(os.fsencode(fixed))))  # noqa: PTH118, PTH120


def temporary(target: bytes, job: int, attempt: int) -> bytes:
    """Return the name beside the target that the handler writes to."""
    parent, name = os.path.split(target)
    return os.path.join(parent, (b".pq-%d-%d-" % (job, attempt) + name)[:NAME_MOST])  # noqa: PTH118
