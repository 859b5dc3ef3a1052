"""The rules of a queue: one handler, templates that can be expanded, codes that mean one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.config import hints, http_urls, notation
from pq_daemon.config.drafting import Finding
from pq_daemon.config.env_files import EnvFileError, read_env_file
from pq_daemon.config.masking import shown_value
from pq_daemon.config.values import duration_text
from pq_daemon.jobs import placeholders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pq_daemon.config.drafting import Draft
    from pq_daemon.config.locating import KeyPath
    from pq_daemon.config.settings import QueueSettings

HANDLERS: Final = ("command", "python", "http")
CODES: Final = ("success_codes", "discard_codes", "retry_codes")
OURS: Final = frozenset(
    {
        "PQ_JOB_ID",
        "PQ_RUN",
        "PQ_ATTEMPT",
        "PQ_LAST_ATTEMPT",
        "PQ_QUEUE",
        "PQ_WATCH",
        "PQ_PATH",
        "PQ_NAME",
        "PQ_RELPATH",
        "PQ_SHA256",
        "PQ_OUTPUT",
        "PQ_PAYLOAD",
        "PQ_TOKEN",
    }
)
"""Variables that every handler gets from the daemon."""


OF_PROCESSES: Final[tuple[str, ...]] = ("interpreter", "memory_limit", "nice", "io", "env_file")
NOT_OF_HTTP: Final[tuple[str, ...]] = (
    "interpreter",
    "memory_limit",
    "nice",
    "io",
    "env",
    "cwd",
    "output",
)


def check_queues(draft: Draft) -> Iterator[Finding]:
    for name, queue in draft.settings.queues.items():
        yield from _one_handler(draft, name)
        yield from _processes(draft, name, queue)
        yield from _env_file(draft, name, queue)
        yield from _templates(draft, name, queue)
        yield from _environment(name, queue)
        yield from _codes(draft, name, queue)
        yield from _backoff(draft, name, queue)


def _one_handler(draft: Draft, name: str) -> Iterator[Finding]:
    written = [key for key in HANDLERS if draft.written("queue", name, key) is not None]
    allowed = "one of command, python and http"
    if not written:
        yield Finding(("queue", name), "missing", allowed, kind="missing")
    for key in written[1:]:
        yield Finding(("queue", name, key), f"{key} beside {written[0]}", allowed)


def _processes(draft: Draft, name: str, queue: QueueSettings) -> Iterator[Finding]:
    """Refuse what means nothing to the queue's handler."""
    if queue.http is None and draft.written("queue", name, "send") == "file":
        path = ("queue", name, "send")
        yield Finding(path, '"file"', '"job", or http for a handler', "only http sends")
    if queue.http is not None:
        keys, beside, hint = NOT_OF_HTTP, "http", "nothing runs here"
    elif queue.isolation == "loop" and draft.is_sound("queue", name, "isolation"):
        beside, hint = 'isolation = "loop"', "a function in the loop runs in the daemon itself"
        keys = OF_PROCESSES
    else:
        return
    for key in keys:
        written = draft.written("queue", name, key)
        if written and written != "normal" and draft.is_sound("queue", name, key):
            path = ("queue", name, key)
            yield Finding(path, shown_value(path, written), f"nothing beside {beside}", hint)


def _env_file(draft: Draft, name: str, queue: QueueSettings) -> Iterator[Finding]:
    path = ("queue", name, "env_file")
    if not draft.is_sound(*path):
        return
    if queue.env_file is None:
        yield from _missing(name, queue, {})
        return
    allowed = "a file of KEY=VALUE lines, mode 0600"
    found = notation.string(str(draft.written(*path)))
    try:
        variables = read_env_file(queue.env_file)
    except EnvFileError as error:
        yield Finding(path, found, allowed, f"{queue.env_file} {error}")
        return
    for variable in sorted(OURS & variables.keys()):
        yield Finding(path, variable, "another name", "the daemon sets this one itself")
    yield from _missing(name, queue, variables)
    if queue.http is not None:
        yield from _http_headers(path, variables)


def _missing(name: str, queue: QueueSettings, variables: Mapping[str, str]) -> Iterator[Finding]:
    for variable in http_urls.variables(queue.http or ""):
        if variable not in variables:
            path = ("queue", name, "http")
            yield Finding(
                path, f"${{{variable}}}", "a variable of the env_file", "it has none such"
            )


def _http_headers(path: KeyPath, variables: Mapping[str, str]) -> Iterator[Finding]:
    for variable, value in variables.items():
        header = http_urls.header_of(variable)
        if header is not None and header.lower() in http_urls.TAKEN:
            yield Finding(path, variable, "another header", "this one is ours to send")
        elif header is not None and not (value.isascii() and value.isprintable()):
            yield Finding(path, variable, "a header of printable ASCII characters")


def _templates(draft: Draft, name: str, queue: QueueSettings) -> Iterator[Finding]:
    templates: list[tuple[KeyPath, str]] = [
        *((("command", place), text) for place, text in enumerate(queue.command or ())),
        *((("env", variable), text) for variable, text in queue.env.items()),
        (("output",), queue.output),
    ]
    output_known = queue.output != "" or not draft.is_sound("queue", name, "output")
    for way, text in templates:
        for allowed, hint in _template(text, way[0], output_known=output_known):
            path = ("queue", name, *way)
            yield Finding(path, shown_value(path, text), allowed, hint)
    yield from _output(("queue", name, "output"), queue.output)


def _output(path: KeyPath, output: str) -> Iterator[Finding]:
    if output.endswith("/"):
        yield Finding(path, notation.string(output), "the path of a file, not of a directory")
    if output.startswith("~"):
        hint = "~ is not expanded: write the whole path"
        yield Finding(path, notation.string(output), "the path of a file", hint)


def _template(text: str, key: str | int, *, output_known: bool) -> Iterator[tuple[str, str]]:
    """Yield (allowed, hint) for each thing wrong with a template."""
    if "\0" in text:
        yield "text without a NUL character", ""
    try:
        used = placeholders.names(text)
    except placeholders.PlaceholderError as error:
        yield "placeholders such as {path}", str(error)
        return
    known = [name for name in placeholders.KNOWN if (key, name) != ("output", "output")]
    listed = " ".join(f"{{{name}}}" for name in known)
    for name in sorted(used - set(known)):
        yield listed, _unknown(name, known, is_secret=key == "env")
    if "output" in used and key != "output" and not output_known:
        yield "{output} only with output set", 'write output = "...", where the result belongs'


def _unknown(name: str, known: list[str], *, is_secret: bool) -> str:
    literal = 'a literal brace is written "{{" or "}}"'
    if is_secret:
        return f"it has a placeholder that is not known; {literal}"
    near = hints.near(name, known)
    meant = f"did you mean {{{near}}}? " if near else ""
    return f"unknown {{{name}}}; {meant}{literal}"


def _environment(name: str, queue: QueueSettings) -> Iterator[Finding]:
    for variable in queue.env:
        path = ("queue", name, "env", variable)
        if not variable or "=" in variable or "\0" in variable:
            yield Finding(
                path, notation.string(variable), "the name of a variable, without = or NUL"
            )
        elif variable in OURS:
            yield Finding(path, variable, "another name", "the daemon sets this one itself")


def _codes(draft: Draft, name: str, queue: QueueSettings) -> Iterator[Finding]:
    meaning: dict[int, str] = {}
    for key in CODES:
        for code in getattr(queue, key):
            other = meaning.setdefault(code, key)
            path = ("queue", name, key if draft.written("queue", name, key) is not None else other)
            if other != key and draft.is_sound(*path):
                hint = f"it is in {other} and in {key}"
                yield Finding(path, f"exit status {code} twice", "each in one list", hint)


def _backoff(draft: Draft, name: str, queue: QueueSettings) -> Iterator[Finding]:
    way = ("queue", name, "backoff")
    base, most = queue.backoff.base, queue.backoff.max
    if base > most and draft.is_sound(*way, "base") and draft.is_sound(*way, "max"):
        key = "base" if draft.written(*way, "base") else "max"
        found = f"base {duration_text(base)} and max {duration_text(most)}"
        yield Finding((*way, key), found, "a base that is not longer than max")
