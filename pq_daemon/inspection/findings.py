"""What a look at the surroundings finds: a grade, what it is about, and words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"  # something that is needed
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    grade: Grade
    where: str  # watch.files, queue.files
    what: str

    @property
    def is_bad(self) -> bool:
        return self.grade in {Grade.MISSING, Grade.BAD}


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as the API shows them."""
    return [{"grade": f.grade.value, "where": f.where, "what": f.what} for f in findings]


def from_json(items: Iterable[dict[str, str]]) -> list[Finding]:
    return [Finding(Grade(each["grade"]), each["where"], each["what"]) for each in items]
