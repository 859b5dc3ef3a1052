"""The rules between directories, by where they really are: symbolic links are followed.

A state directory or a log inside a watched directory would make the daemon work on its own files
for ever; on a network filesystem locks and fsync do not mean what the promise rests on. Watches
may share directories and lie inside each other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.config import notation
from pq_daemon.config.drafting import Finding
from pq_daemon.runtime.filesystems import NETWORK, filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.config.drafting import Draft


def check_directories(draft: Draft) -> Iterator[Finding]:
    roots = {
        place: real(watch.path)
        for place, watch in enumerate(draft.settings.watches)
        if draft.is_sound("watch", place, "path")
    }
    if draft.is_sound("daemon", "state_dir"):
        yield from _state_apart(draft, roots)
        yield from _state_at_home(draft)
    if draft.is_sound("daemon", "log_file"):
        yield from _log_apart(draft, roots)


def real(path: Path) -> Path:
    """Return where a path really leads, whether it is there or not."""
    return Path(os.path.realpath(path))


def is_within(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _called(draft: Draft, place: int) -> str:
    return f"watch {notation.string(draft.settings.watches[place].name)}"


def _state_apart(draft: Draft, roots: dict[int, Path]) -> Iterator[Finding]:
    state = real(draft.settings.daemon.state_dir)
    for place, root in roots.items():
        if is_within(state, root) or is_within(root, state):
            relation = "holds" if is_within(state, root) else "lies in"
            yield Finding(
                ("watch", place, "path"),
                _written(draft, "watch", place, "path"),
                "a directory apart from daemon.state_dir",
                f"it {relation} {notation.string(str(state))}",
            )


def _state_at_home(draft: Draft) -> Iterator[Finding]:
    state = draft.settings.daemon.state_dir
    kind = kind_of(real(state))
    if kind in NETWORK:
        allowed = "a directory on a local disk"
        found = _written(draft, "daemon", "state_dir") or notation.string(str(state))
        yield Finding(
            ("daemon", "state_dir"), found, allowed, f"it is on a filesystem of kind {kind}"
        )


def kind_of(path: Path) -> str | None:
    """Return the kind of filesystem a path lies on, or would lie on once it is made."""
    for place in (path, *path.parents):
        with suppress(OSError):
            return filesystem(place)
    return None


def _log_apart(draft: Draft, roots: dict[int, Path]) -> Iterator[Finding]:
    log = draft.settings.daemon.log_file
    for place, root in roots.items():
        if log is not None and is_within(real(log), root):
            hint = (
                f"it lies in the directory of {_called(draft, place)}: each line would make a job"
            )
            found = _written(draft, "daemon", "log_file")
            yield Finding(("daemon", "log_file"), found, "a file outside every watch", hint)


def _written(draft: Draft, *path: str | int) -> str:
    value = draft.written(*path)
    return "" if value is None else notation.value(value)
