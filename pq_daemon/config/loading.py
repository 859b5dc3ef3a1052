"""From a file to Settings: read whole, validate whole, report every problem at once.

The way of a file: read_text and read_toml (reading.py), a draft with what pydantic refuses
(drafting.py), the rules between fields (checking.py), and then settings, or all the problems with
the lines they stand on (locating.py). Blocking, and a user's demo password may cost 36 ms: call it
in a thread.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon.config.checking import check
from pq_daemon.config.directories import check_directories
from pq_daemon.config.drafting import Draft, draft
from pq_daemon.config.locating import locate
from pq_daemon.config.problems import ConfigurationError, Problem, file_problem
from pq_daemon.config.reading import read_text, read_toml
from pq_daemon.config.tables import key_text
from pq_daemon.jobs import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from pq_daemon.config.drafting import Finding
    from pq_daemon.config.settings import Settings

__all__ = ["ConfigurationError", "Problem", "check_in_force", "find_config", "load", "parse"]

VARIABLE: Final = "PQ_CONFIG"
PLACES: Final = (Path("config.toml"), Path("/etc/pq/config.toml"))


def find_config(explicit: Path | None) -> Path:
    """Return the file that is meant: the given one, else $PQ_CONFIG, else the first in PLACES.

    Raises:
        ConfigurationError: there is none; it names every place that was looked at.

    """
    variable = os.environ.get(VARIABLE)
    named = explicit or (Path(variable) if variable else None)
    if named is not None:
        if _is_there(named):
            return named
        origin = "--config" if explicit else f"${VARIABLE}"
        problem = file_problem("there is no such file", hint=f"it was named by {origin}")
        raise ConfigurationError(named, (problem,))
    for place in PLACES:
        if _is_there(place):
            return place
    looked = ", ".join(str(place.absolute()) for place in PLACES)
    problem = file_problem(
        "no configuration was found",
        hint=f"looked at: --config (not given), ${VARIABLE} (not set), {looked}",
    )
    raise ConfigurationError(None, (problem,))


def _is_there(path: Path) -> bool:
    """Whether something is there; what cannot be looked at counts, so that reading it says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load(path: Path) -> Settings:
    """Read and validate a configuration file.

    Raises:
        ConfigurationError: with every problem found.

    """
    return parse(read_text(path), path)


def parse(text: str, source: Path) -> Settings:
    """Validate a configuration's text as if it stood in the file `source`.

    Raises:
        ConfigurationError: with every problem found, in the order of the text.

    """
    raw = read_toml(text, source)
    made = draft(raw, source, text)
    findings = [*made.findings, *check(made)]
    if findings:
        raise ConfigurationError(source, _problems(findings, raw, text))
    return _with_absolute_outputs(made.settings)


def check_in_force(settings: Settings) -> None:
    """Check the directories again when keys of a running daemon were kept over the file's.

    A file may move state_dir, which waits for a restart, and watch the old one, which would not.

    Raises:
        ConfigurationError: together they would make the daemon work on its own files.

    """
    raw = read_toml(settings.text, settings.source)
    findings = list(check_directories(Draft(settings, raw, ())))
    if findings:
        raise ConfigurationError(settings.source, _problems(findings, raw, settings.text))


def _with_absolute_outputs(settings: Settings) -> Settings:
    queues = {
        name: queue.model_copy(update={"output": _absolute(queue.output, settings.directory)})
        for name, queue in settings.queues.items()
    }
    return settings.model_copy(update={"queues": queues})


def _absolute(output: str, directory: Path) -> str:
    """Let a relative output start at the file's directory; {path} and {parent} are absolute."""
    if not output or output.startswith(("/", "{path}", "{parent}")):
        return output
    return f"{placeholders.literal(str(directory))}/{output}"


def _problems(
    findings: Iterable[Finding], raw: Mapping[str, Any], text: str
) -> tuple[Problem, ...]:
    locations = locate(text)
    problems = [
        Problem(
            key_text(found.path, raw),
            locations.line(found.path),
            found.found,
            found.allowed,
            found.hint,
            found.kind,
        )
        for found in findings
    ]
    return tuple(sorted(problems, key=lambda problem: problem.line or 0))
