"""What `pq service` writes: the package's systemd files, made to fit this installation. Pure text.

Each file begins with a line that holds the digest of the rest. By it a file that somebody has
edited since is told from one that may be replaced or removed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pq_daemon.config.settings import Settings

Place = PurePosixPath

UNIT: Final = Place("/etc/systemd/system/pq.service")
DROP_INS: Final = Place(f"{UNIT}.d")
PLACES: Final[Mapping[str, Place]] = {
    "pq.service": UNIT,
    "pq.sysusers.conf": Place("/etc/sysusers.d/pq.conf"),
    "pq.tmpfiles.conf": Place("/etc/tmpfiles.d/pq.conf"),
}
"""Where each of the package's files belongs."""

CONFIG: Final = Place("/etc/pq/config.toml")
STATE: Final = Place("/var/lib/pq")
WRITABLE: Final = (Place("/srv"), STATE, Place("/var/log/pq"), Place("/run/pq"))
HOMES: Final = (Place("/home"), Place("/root"), Place("/run/user"))
HIDDEN: Final = (*HOMES, Place("/tmp"), Place("/var/tmp"))  # noqa: S108 - the unit has its own
"""What the unit does not see of the machine: ProtectHome and PrivateTmp."""

STOP_LIMIT: Final = 50
"""Seconds of TimeoutStopSec in the package's unit."""

SPARE: Final = 10.0
"""Seconds of a stop beside those for draining and for handlers that ignore TERM."""

PROGRAM_WORD: Final = "/opt/pq/bin/pq"
PLAIN: Final = re.compile(r"[\w@+./-]+", re.ASCII)
SIGNATURE: Final = (
    "# Written by pq service ({digest}). Put changes into a file of your own: systemctl edit pq\n"
)
SIGNED: Final = re.compile(r"# Written by pq service \((?P<digest>[0-9a-f]{16})\)")


# --- signatures ----------------------------------------------------------------------------------


def signed(text: str) -> str:
    return SIGNATURE.format(digest=_digest(text)) + text


def is_as_written(text: str) -> bool:
    """Whether a file is as some `pq service` wrote it, of this version or another."""
    first, _, rest = text.partition("\n")
    match = SIGNED.match(first)
    return match is not None and match["digest"] == _digest(rest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- the unit ------------------------------------------------------------------------------------


def fitted(text: str, *, program: Place, config: Place, settings: Settings | None) -> str:
    """Return the package's unit with the paths of this installation and the time its drain takes.

    Raises:
        InvalidRequestError: a path would need quoting.

    """
    for word in (program, config):
        if not PLAIN.fullmatch(str(word)):
            raise InvalidRequestError(
                f"{word} cannot stand in a unit: use a path of letters, digits, and . _ - + @"
            )
    limit = stop_limit(settings) if settings else STOP_LIMIT
    text = text.replace(f"={PROGRAM_WORD} --config {CONFIG} ", f"={program} --config {config} ")
    if limit == STOP_LIMIT:
        return text
    return re.sub(
        r"# drain_timeout .*\nTimeoutStopSec=.*",
        f"# drain_timeout, the longest kill_grace, and {SPARE:g} s\nTimeoutStopSec={limit}",
        text,
    )


def stop_limit(settings: Settings) -> int:
    """Seconds that a stop may take with this configuration, at least what the unit allows."""
    graces = [queue.kill_grace for queue in settings.queues.values()]
    longest = settings.daemon.drain_timeout + max(graces, default=0.0) + SPARE
    return max(STOP_LIMIT, round(longest))


# --- drop-ins ------------------------------------------------------------------------------------


def drop_in_place(path: Place) -> Place:
    """Where the drop-in that opens the unit for a directory belongs. One directory, one file."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", str(path)).strip("-")[:60]
    return DROP_INS / f"allow-{words}-{_digest(str(path))[:6]}.conf"


def drop_in(path: Place) -> str:
    """Return the drop-in that lets the unit see and write a directory, and nothing beside it.

    Raises:
        InvalidRequestError: the path cannot be written in a unit, or it is the whole machine.

    """
    if path == Place("/") or not path.is_absolute():
        raise InvalidRequestError(f"{path} would open the whole machine: name a directory in it")
    text = str(path)
    if not text.isprintable() or not _is_utf8(text):
        raise InvalidRequestError("no unit can name this directory: rename it, or move it to /srv")
    word = quoted(f"-{text}")
    if not is_below(path, HIDDEN):
        return f"[Service]\nReadWritePaths={word}\n"
    if {'"', "'"} & set(text):  # lost between systemd 255 and its own executor
        raise InvalidRequestError(
            f"systemd cannot show {path} to a service for its quotes: rename it, or move it to /srv"
        )
    lines = [f"BindPaths={word}"]
    if is_below(path, HOMES):
        lines.insert(0, "# The homes stay hidden: an empty tree, with this one directory in it.")
        lines.insert(1, "ProtectHome=tmpfs")
    return "[Service]\n" + "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """Return a path as one word of a unit file (systemd.syntax(7)), percent signs kept."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_below(path: Place, places: Iterable[Place]) -> bool:
    """Whether a path is one of the places, or lies below one."""
    return any(path == place or place in path.parents for place in places)
