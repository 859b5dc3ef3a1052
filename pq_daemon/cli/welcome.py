"""What `pq run` says once the daemon is up: where to go, what is watched, how to stop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon import __version__
from pq_daemon.config.passwords import DEMO_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pq_daemon.config.settings import Settings


def welcome(settings: Settings, *, demo_users: Sequence[str], demo: bool) -> Iterator[str]:
    """Yield the lines. `demo_users` still have the demo's password."""
    url = f"http://{settings.server.listen}"
    yield f"pq-daemon {__version__} is up (process {os.getpid()})."
    yield ""
    yield f"  Manager   {url}/manager"
    yield f"  Ops       {url}/ops"
    yield f"  Log in    {login(settings, demo_users)}"
    for watch in settings.watches:
        missing = "" if watch.path.is_dir() else "  MISSING"
        yield f"  Watched   {here(watch.path)} -> queue {watch.queue}{missing}"
    if settings.daemon.log_file:
        yield f"  Log       {here(settings.daemon.log_file)}"
    yield ""
    if demo:
        yield "Samples keep coming: quick, slow, flaky and failing ones."
    if settings.watches:
        yield f"Try: cp {sample()} {here(settings.watches[0].path)}/"
    yield "Stop with Ctrl-C."
    yield ""


def login(settings: Settings, demo_users: Sequence[str]) -> str:
    if not settings.users:
        return "nobody can yet: pq passwd NAME --role manager"
    if demo_users:
        return f"user {demo_users[0]}, password {DEMO_PASSWORD} (pq passwd changes it)"
    return "as " + ", ".join(user.name for user in settings.users)


def sample() -> str:
    return "README.md" if Path("README.md").is_file() else "SOME-FILE"


def here(path: Path) -> str:
    """The path as one would type it from where the command was started."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
