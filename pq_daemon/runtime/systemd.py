"""sd_notify: tell systemd what we are doing. Silent where nobody listens.

The protocol is a datagram of lines to $NOTIFY_SOCKET (sd_notify(3)); a leading @ is an abstract
socket. RELOADING=1 goes with MONOTONIC_USEC in the same datagram. The watchdog's beat comes from
a task of the loop itself: a hung loop must stop beating.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final

OWN_VARIABLES: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
)
"""Not for children: a handler must not speak for the daemon."""


def notify(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        door.sendto("\n".join(lines).encode(), target)


def ready(status: str) -> None:
    notify("READY=1", f"STATUS={status}")


def reloading() -> None:
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping(status: str) -> None:
    notify("STOPPING=1", f"STATUS={status}")


def status(text: str) -> None:
    notify(f"STATUS={text}")


def beat() -> None:
    notify("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Seconds between beats: half of what systemd allows, None when it does not watch us."""
    allowed = os.environ.get("WATCHDOG_USEC")
    meant_for = os.environ.get("WATCHDOG_PID")
    if not allowed or (meant_for and meant_for != str(os.getpid())):
        return None
    return int(allowed) / 1_000_000 / 2
