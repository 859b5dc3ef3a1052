"""Where the control socket is: one rule for the daemon that binds it and the commands that ask.

`$PQ_SOCKET` wins. Then the configuration: with a `socket_group` the socket must be reachable by
others, so it lies in the runtime directory (`$RUNTIME_DIRECTORY`, else /run/pq); without one it is
the owner's alone, inside the private state directory. Without a configuration: /run/pq/pq.sock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pq_daemon.config.settings import Settings

NAME: Final = "pq.sock"
RUNTIME_DIRECTORY: Final = Path("/run/pq")


def socket_path(settings: Settings | None) -> Path:
    """Return the absolute path of the control socket."""
    given = os.environ.get("PQ_SOCKET")
    if given:
        return Path(given).absolute()
    if settings is None:
        return RUNTIME_DIRECTORY / NAME
    if settings.server.socket_group:
        return _runtime_directory() / NAME
    return settings.daemon.state_dir / NAME


def _runtime_directory() -> Path:
    """The first of the directories that systemd may name, separated by colons."""
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else RUNTIME_DIRECTORY
