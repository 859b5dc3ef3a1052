"""What a key takes, in words for a person, derived from the models so that it cannot lag them."""

from __future__ import annotations

import types
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import PlainSerializer

from pq_daemon.config import notation
from pq_daemon.config.settings import LATER, Table
from pq_daemon.config.values import Words

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

NOT_YET: Final = "not yet available"
PLAIN: Final[dict[Any, str]] = {
    str: "text in quotes",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a table",
}


def field(info: FieldInfo) -> str:
    """Say what a field takes."""
    if LATER in info.metadata:
        default = written_default(info)
        only = f"only {notation.value(default)}: anything else" if default else "nothing: it"
        return f"{only} is {NOT_YET}"
    return _kind(info.annotation, info.metadata)


def written_default(info: FieldInfo) -> Any:
    """Return a field's default as a file would write it: nothing is an empty text."""
    default: Any = info.get_default(call_default_factory=True, validated_data={})
    for note in info.metadata:
        if isinstance(note, PlainSerializer) and default is not None:
            write: Callable[[Any], Any] = note.func  # type: ignore[assignment] # the kind without info
            return write(default)
    return "" if default is None else default


def item(info: FieldInfo) -> str:
    """Say what one item of a list or table takes."""
    inner = [argument for argument in get_args(info.annotation) if argument is not type(None)]
    return _kind(inner[-1] if inner[-1] is not ... else inner[0], [])


def _kind(annotation: Any, metadata: list[Any]) -> str:
    for note in metadata:
        if isinstance(note, Words):
            return note.text
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *notes = get_args(annotation)
        return _kind(inner, _flat(notes))
    if origin in (Union, types.UnionType):
        choices = [part for part in get_args(annotation) if part is not type(None)]
        return _either([_kind(part, []) for part in choices])
    if origin is Literal:
        return _either([notation.value(part) for part in get_args(annotation)])
    if origin is tuple:
        return f"a list, each item {_kind(get_args(annotation)[0], [])}"
    return _plain(origin or annotation, metadata)


def _plain(kind: Any, metadata: list[Any]) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _either([notation.value(choice.value) for choice in kind])
    if isinstance(kind, type) and issubclass(kind, Table):
        return PLAIN[dict]
    low = next((note.ge for note in metadata if isinstance(note, Ge)), None)
    high = next((note.le for note in metadata if isinstance(note, Le)), None)
    words = PLAIN.get(kind, PLAIN[str])
    return words if low is None else f"{words} from {low} to {high}"


def _flat(notes: list[Any]) -> list[Any]:
    """Unpack `Field(ge=…)` inside an Annotated."""
    return [inner for note in notes for inner in getattr(note, "metadata", [note])]


def _either(choices: list[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last
