"""What to write instead: the nearest known key, the right table, the list for a command."""

from __future__ import annotations

import difflib
import re
import shlex
from typing import TYPE_CHECKING, Any, Final, get_origin

from pq_daemon.config import describing, notation
from pq_daemon.config.tables import FIELDS, HEADERS, LISTS, TABLES, inner_table, keys, table_at
from pq_daemon.jobs.placeholders import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic.fields import FieldInfo

    from pq_daemon.config.locating import KeyPath

SHELL: Final = re.compile(r"[|&;<>`\n]")
PLACEHOLDER: Final = re.compile(rf"(?P<quote>[\"']?)\{{(?P<name>{'|'.join(KNOWN)})\}}(?P=quote)")


def near(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant, or nothing."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1)
    return found[0] if found else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Say `did you mean "settle"?`, or nothing."""
    meant = near(word, known)
    return f"did you mean {notation.string(meant)}?" if meant else ""


def known_keys(path: KeyPath) -> tuple[str, str]:
    """Return the keys that are known where an unknown one stands, and the one that was meant."""
    word = str(path[-1])
    if len(path) == 1:
        known = ", ".join(HEADERS.values())
        return known, _home(word) or nearest(word, TABLES)
    model = table_at(path)
    if word in {"password", "passwd"} and path[0] == "user":
        return ", ".join(keys(model)), 'a password is set with "pq passwd NAME"'
    return ", ".join(keys(model)), nearest(word, keys(model)) or _home(word)


def _home(word: str) -> str:
    """Say which table a key belongs to."""
    homes = []
    for name, model in TABLES.items():
        for key in keys(model):
            inner = inner_table(model.model_fields[key])
            if key == word:
                homes.append(HEADERS[name])
            elif inner and word in keys(inner):
                homes.append(f"{key} of {HEADERS[name]}")
    return f"{word} belongs in {' or '.join(homes)}" if homes else ""


def table(name: str) -> tuple[str, str]:
    """Return what belongs in the place of a table, and how it is written."""
    if name in LISTS:
        return "tables", f"write {HEADERS[name]} with two brackets, once for each"
    if name in FIELDS:
        return "a table for each", f"write {HEADERS[name]}"
    return "a table", f"write {HEADERS[name]}"


def value(path: KeyPath, found: Any, info: FieldInfo) -> str:
    """Say how a value of the wrong type is written."""
    if not isinstance(found, str):
        return ""
    if path[-1] == "command":
        return command(found)
    if get_origin(info.annotation) is tuple and isinstance(path[-1], str):
        return f"write {notation.value([found])}"
    allowed = describing.field(info)
    is_number = re.fullmatch(r"[0-9]+", found) and "whole number" in allowed
    if is_number or (found in {"true", "false"} and "true or false" in allowed):
        return f"write {found} without quotes"
    return ""


def command(text: str) -> str:
    """Say which list a command that was written as one text would be."""
    if SHELL.search(text):
        return f"no shell reads it; write command = {notation.value(_for_a_shell(text))}"
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    return f"write command = {notation.value(words or [text])}"


def _for_a_shell(text: str) -> list[str]:
    """Hand values to a shell as its arguments: put into its script they would be read as code."""
    names: list[str] = []

    def positional(found: re.Match[str]) -> str:
        if found["name"] not in names:
            names.append(found["name"])
        return f'"${names.index(found["name"]) + 1}"'

    script = PLACEHOLDER.sub(positional, text)
    if re.search(r"[\"'{}\\]", re.sub(r'"\$[0-9]+"', "", script)):
        return ["./your-script", *(f"{{{name}}}" for name in names or ["path"])]
    return ["sh", "-c", script, "sh", *(f"{{{name}}}" for name in names)]
