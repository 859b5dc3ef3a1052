"""Problems of a configuration, one a line: ours, and those that the daemon's answer tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pq_daemon.cli import printing
from pq_daemon.config.problems import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pq_daemon.config.problems import Kind


def complain(error: ConfigurationError) -> None:
    """Write every problem on stderr."""
    for line in error.lines():
        printing.complain(line)


def told(answer: Mapping[str, Any], *, source: Path | None) -> ConfigurationError | None:
    """Return what an answer of the API says about a configuration, if it does."""
    errors = answer.get("errors")
    return ConfigurationError(source, tuple(map(_problem, errors))) if errors else None


def _problem(error: Mapping[str, Any]) -> Problem:
    return Problem(
        key=error["key"],
        line=error["line"],
        found=error["found"],
        allowed=error["allowed"],
        hint=error.get("hint") or "",
        kind=_kind(error),
    )


def _kind(error: Mapping[str, Any]) -> Kind:
    """How `found` reads: the API does not say it, but the words do."""
    if error["found"] == "unknown key":
        return "unknown"
    if error["found"] == "missing":
        return "missing"
    return "value" if error["key"] else "file"
