"""Times as people write them: "+10m" from now, "18:30" today or tomorrow, or a whole date."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pq_daemon.config.values import seconds

CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Later:
    """A moment, as the API takes it."""

    at: datetime

    @property
    def text(self) -> str:
        return self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def later(text: str) -> Later:
    """Understand a time of the command line."""
    try:
        return Later(understood(text, datetime.now().astimezone()))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'"{text}" is no time; write "+10m", "18:30" or "2030-01-31T08:00"'
        ) from None


def understood(text: str, now: datetime) -> datetime:
    """Return the moment a text means, seen from `now`.

    Raises:
        ValueError: it is no time.

    """
    if text.startswith("+"):
        return now + timedelta(seconds=seconds(text[1:]))
    clock = CLOCK.fullmatch(text)
    if clock:
        today = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return today if today > now else today + timedelta(days=1)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.astimezone()
