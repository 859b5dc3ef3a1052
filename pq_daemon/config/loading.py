"""From a file to Settings: read whole, validate whole, report every problem at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pq_daemon.errors import PqError

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration: where, what was found, what is allowed."""

    key: str  # "watch[1].settle", "queue.files.timeout"; "" for the file as a whole
    line: int | None
    found: str
    allowed: str
    hint: str = ""  # "did you mean settle?"


class ConfigurationError(PqError):
    """The configuration cannot be used. Nothing of it was applied."""

    code: ClassVar[str] = "configuration"

    def __init__(self, source: Path | None, problems: tuple[Problem, ...]) -> None:
        super().__init__(f"{source}: {len(problems)} problem(s)")
        self.source = source
        self.problems = problems


def load(path: Path) -> Settings:
    """Read and validate a configuration file.

    Raises:
        ConfigurationError: with every problem found.

    """
    raise NotImplementedError(path)
