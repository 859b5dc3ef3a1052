"""What is wrong with a configuration, told to a person: where, what was found, what is allowed.

A key is written as a user would say it: `daemon.workers`, `queue.files.timeout`,
`watch.files.settle`. A watch or user is called by its name; without a usable one by its number,
counted from 1: `watch[2].path`. The items of a list are counted from 1, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pq_daemon.errors import PqError
from pq_daemon.runtime.names import one_line

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["value", "unknown", "missing", "file"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. Secrets are never in `found`.

    `kind` says how `found` reads: a value as TOML writes it, or a plain statement ("unknown key",
    "missing", what is wrong with the file).
    """

    key: str  # "" for the file as a whole
    line: int | None
    found: str
    allowed: str
    hint: str = ""  # 'did you mean "settle"?'
    kind: Kind = "value"

    @property
    def sentence(self) -> str:
        """Say it without the place, on one line."""
        return one_line("; ".join(part for part in self._parts() if part))

    def _parts(self) -> tuple[str, ...]:
        if self.kind == "unknown":
            return (self.found, self.hint or f"known here: {self.allowed}")
        if self.kind == "missing":
            return (self.found, f"needed: {self.allowed}", self.hint)
        allowed = f"allowed: {self.allowed}" if self.allowed else ""
        found = f"found {self.found}" if self.kind == "value" and self.found else self.found
        return (found, allowed, self.hint)


class ConfigurationError(PqError):
    """The configuration cannot be used. Nothing of it was applied."""

    code: ClassVar[str] = "configuration"

    def __init__(self, source: Path | None, problems: tuple[Problem, ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        more = f" (and {count - 1} more)" if count > 1 else ""
        return f"{self.lines()[0]}{more}" if count else "the configuration cannot be used"

    def lines(self) -> list[str]:
        """Say each problem on a line: `config.toml:14: watch.files.setle: unknown key; …`."""
        return [self._line(problem) for problem in self.problems]

    def _line(self, problem: Problem) -> str:
        place = str(self.source) if self.source else "configuration"
        if problem.line is not None:
            place = f"{place}:{problem.line}"
        named = f"{place}: {problem.key}" if problem.key else place
        return f"{one_line(named)}: {problem.sentence}"


def file_problem(found: str, allowed: str = "", hint: str = "", line: int | None = None) -> Problem:
    """Return what is wrong with the file as a whole."""
    return Problem("", line, found, allowed, hint, kind="file")
