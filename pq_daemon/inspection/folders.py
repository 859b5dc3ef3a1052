"""Folders: whether they are there, what they lie on, and what we may do in them. Blocking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pq_daemon.inspection import rights
from pq_daemon.inspection.findings import Finding, Grade
from pq_daemon.inspection.surveying import CLOSED
from pq_daemon.producer.roots import look
from pq_daemon.runtime.filesystems import filesystem
from pq_daemon.runtime.names import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.config.settings import QueueSettings, WatchSettings
    from pq_daemon.inspection.surveying import Survey
    from pq_daemon.producer.plan import Watch

HOMES: Final = (b"/home/", b"/root/", b"/run/user/")
TEMPORARY: Final = (b"/tmp/", b"/var/tmp/")


def watched(settings: WatchSettings, watch: Watch, survey: Survey) -> Iterator[Finding]:
    """Say how a watched folder is."""
    where = f"watch.{watch.name}"
    obstacle = rights.obstacle(watch.root)
    if obstacle is not None:
        yield Finding(Grade.MISSING, where, f"{settings.path}: {_absent(watch, obstacle)}")
        return
    yield Finding(Grade.OK, where, f"{settings.path} ({_settle(watch)})")
    closed = survey.closed or survey.files[CLOSED]
    yield Finding(Grade.WARNING if closed else Grade.OK, where, survey.words)
    for directory in survey.closed[:1]:
        more = f" and {len(survey.closed) - 1} more" if len(survey.closed) > 1 else ""
        yield Finding(Grade.WARNING, where, f"may not be listed: {directory}{more}")
    yield from _putting_away(where, settings, watch)


def _absent(watch: Watch, obstacle: str) -> str:
    if not os.path.lexists(watch.configured):
        hidden = hidden_by(watch.configured)
        return f"does not exist{hidden}; it is never created, as it may be a disk to be mounted"
    return obstacle


def hidden_by(path: bytes) -> str:
    """Say what keeps a service from seeing a path; empty when nothing known does."""
    if "INVOCATION_ID" not in os.environ:
        return ""
    if path.startswith(HOMES):
        return f" for the service, or is hidden by ProtectHome: pq service allow {shown(path)}"
    if path.startswith(TEMPORARY):
        return f" for the service, or is hidden by PrivateTmp: pq service allow {shown(path)}"
    return ""


def _settle(watch: Watch) -> str:
    """Tell the filesystem and how long a file must rest on it."""
    kind = look(watch.root).filesystem
    calm, unsure = (
        watch.settle.seconds(kind, empty=False, lease_tells=tells) for tells in (True, False)
    )
    name = filesystem(watch.root)
    if kind.shared:
        return f"{name}: files rest {unsure:g} s, and are found by scanning alone"
    return f"{name}: files rest {calm:g} s, {unsure:g} s if empty or not ours"


def _putting_away(where: str, settings: WatchSettings, watch: Watch) -> Iterator[Finding]:
    """Whatever moves or deletes files needs the right to."""
    acts = [f"on_success = {settings.on_success}"] if settings.on_success != "keep" else []
    acts += [f"on_failure = {settings.on_failure}"] if settings.on_failure != "keep" else []
    if not acts:
        return
    obstacle = rights.obstacle(watch.root, write=True)
    if obstacle is not None:
        yield Finding(Grade.MISSING, where, f"{', '.join(acts)} cannot be: {obstacle}")


def output(where: str, queue: QueueSettings) -> Iterator[Finding]:
    """Say whether results can be written, as far as the template tells before its first name."""
    if not queue.output.startswith("/"):
        return
    fixed = os.fsencode(queue.output.partition("{")[0].rpartition("/")[0] or "/")
    there = fixed
    while not os.path.isdir(there):  # noqa: PTH112 - names are bytes
        there = os.path.dirname(there)  # noqa: PTH120
    obstacle = rights.obstacle(there, write=True)
    made = "" if there == fixed else ", which will be made"
    if obstacle is not None:
        yield Finding(Grade.MISSING, where, f"output into {shown(fixed)} cannot be: {obstacle}")
    else:
        yield Finding(Grade.OK, where, f"writes into {shown(fixed)}{made}")
