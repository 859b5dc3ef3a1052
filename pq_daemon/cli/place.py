"""Where things are: the configuration a command means, and the socket of its daemon.

A running daemon keeps working when its configuration file breaks, so the commands that talk to it
must still find it then: `pq reload` is how the mistake is found. They read what can be read.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from pq_daemon.config.loading import ConfigurationError, find_config, load
from pq_daemon.config.settings import DaemonSettings, ServerSettings, Settings
from pq_daemon.config.socket import socket_path

if TYPE_CHECKING:
    import argparse

HEAD: Final = re.compile(r"\s*\[+(?P<name>[^\[\]]+)\]+\s*(#.*)?$")


def configuration(arguments: argparse.Namespace) -> Settings:
    """Load the configuration that is meant, whole.

    Raises:
        ConfigurationError: there is none, or it has problems.

    """
    return load(found(arguments))


def found(arguments: argparse.Namespace) -> Path:
    """Return the configuration's file.

    Raises:
        ConfigurationError: there is none.

    """
    return find_config(Path(arguments.config) if arguments.config else None)


def source(arguments: argparse.Namespace) -> Path | None:
    """Return the configuration's file, None when there is none or the daemon may be elsewhere."""
    try:
        return found(arguments) if arguments.url is None else None
    except ConfigurationError:
        return None


def socket(arguments: argparse.Namespace) -> Path | None:
    """Return the control socket of the daemon that is meant, None when it has an address.

    Raises:
        ConfigurationError: the configuration was named and is not there.

    """
    if arguments.url is not None:
        return None
    return socket_path(None if os.environ.get("PQ_SOCKET") else readable(arguments))


def readable(arguments: argparse.Namespace) -> Settings | None:
    """Return the configuration, or what of it can be read; None when that is nothing.

    Raises:
        ConfigurationError: it was named and is not there.

    """
    try:
        return configuration(arguments)
    except ConfigurationError as error:
        if error.source is None:
            return None
        if not error.source.exists():
            raise
        return salvaged(error.source)


def salvaged(source: Path) -> Settings | None:
    """Return what a broken configuration says of state_dir, log_file and socket_group."""
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
        home = source.absolute().parent
        lines = single_lines(text)
        daemon = DaemonSettings(
            state_dir=home / lines.get("daemon.state_dir", DaemonSettings().state_dir),
            log_file=home / lines["daemon.log_file"] if lines.get("daemon.log_file") else None,
        )
        server = ServerSettings(socket_group=lines.get("server.socket_group", ""))
        return Settings(daemon=daemon, server=server, source=source)
    except (OSError, ValidationError):
        return None


def single_lines(text: str) -> dict[str, str]:
    """Return the texts that stand on lines of their own, as `table.key`."""
    texts: dict[str, str] = {}
    table = ""
    for line in text.splitlines():
        head = HEAD.match(line)
        if head:
            table = f"{head['name'].strip()}."
            continue
        with suppress(tomllib.TOMLDecodeError):
            values = tomllib.loads(line)
            texts |= {table + key: value for key, value in values.items() if isinstance(value, str)}
    return texts
