"""The `{path}` and `{name}` inside command, output and env: one parser for those who check and run.

Values are bytes, because file names are, and are put in as they are: nothing in a value is read as
a placeholder again, and one template makes exactly one argument. `{{` and `}}` are literal braces;
a brace that stands alone is an error, so that a typing mistake is found by `pq check` and not at
three in the morning. What the values of a job are is decided where it runs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KNOWN: Final = (
    "path",
    "name",
    "stem",
    "suffix",
    "parent",
    "relpath",
    "relparent",
    "job_id",
    "attempt",
    "output",
)
"""In the order the documentation lists them."""

_PIECE: Final = re.compile(r"(?P<escape>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])|[^{}]+")


class PlaceholderError(ValueError):
    """A template that cannot be expanded. The message is written for a person."""


def expand(template: str, values: Mapping[str, bytes]) -> bytes:
    """Put the values in. The result is one argument, whatever the values contain.

    Raises:
        PlaceholderError: a brace stands alone, or a placeholder has no value.

    """
    return b"".join(
        _value(text, values) if is_name else text.encode("utf-8", "surrogateescape")
        for is_name, text in _pieces(template)
    )


def names(template: str) -> set[str]:
    """Return the placeholders a template uses, known or not.

    Raises:
        PlaceholderError: a brace stands alone.

    """
    return {text for is_name, text in _pieces(template) if is_name}


def literal(text: str) -> str:
    """Return the template whose expansion is the text itself."""
    return text.replace("{", "{{").replace("}", "}}")


def _pieces(template: str) -> Iterator[tuple[bool, str]]:
    for piece in _PIECE.finditer(template):
        if piece["stray"]:
            raise PlaceholderError(
                f'"{piece["stray"]}" stands alone at character {piece.start() + 1}; '
                f'a literal brace is written "{piece["stray"] * 2}"'
            )
        if piece["escape"]:
            yield False, piece["escape"][0]
        elif piece["name"] is not None:
            yield True, piece["name"]
        else:
            yield False, piece[0]


def _value(name: str, values: Mapping[str, bytes]) -> bytes:
    try:
        return values[name]
    except KeyError:
        raise PlaceholderError(f"{{{name}}} has no value here") from None
