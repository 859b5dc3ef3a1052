"""Problems of a configuration, one a line: ours, and those that the daemon's answer tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pq_daemon.cli import printing
from pq_daemon.config.problems import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping


def complain(error: ConfigurationError) -> None:
    """Write every problem on stderr."""
    for line in error.lines():
        printing.complain(line)


def told(answer: Mapping[str, Any]) -> ConfigurationError | None:
    """Return what an answer of the API says about a configuration, if it does."""
    errors = answer.get("errors")
    if not errors:
        return None
    source = answer.get("source")
    return ConfigurationError(Path(source) if source else None, tuple(map(_problem, errors)))


def _problem(error: Mapping[str, Any]) -> Problem:
    return Problem(
        key=error["key"],
        line=error["line"],
        found=error["found"],
        allowed=error["allowed"],
        hint=error.get("hint") or "",
        kind=error.get("kind") or "value",
    )
