"""The small languages inside config.toml: durations, sizes, paths, what to do with a finished file.

Each is a type for a field of settings.py. A file must write a duration as one ("10s", never 10);
Python code that builds settings may hand in plain seconds and bytes. Relative paths of a file are
resolved against its directory, which loading gives along. `Words` tell a person what a type takes.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo
from pydantic_core import PydanticCustomError

from pq_daemon.config.http_urls import is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
SECONDS: Final[Mapping[str, float]] = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
DURATION_MOST: Final = 3650 * 86400.0
SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
BYTES: Final[Mapping[str, int]] = {
    "TiB": 2**40,
    "TB": 10**12,
    "GiB": 2**30,
    "GB": 10**9,
    "MiB": 2**20,
    "MB": 10**6,
    "KiB": 2**10,
    "KB": 10**3,
    "kB": 10**3,
    "B": 1,
}
SIZE_MOST: Final = 2**50
REFUSED: Final = "refused"

DURATION_WORDS: Final = 'a duration such as "500ms", "10s", "5m", "2h" or "7d"'
SIZE_WORDS: Final = 'a size such as "0B", "64KiB" or "10MB"'
PATH_WORDS: Final = "a path in quotes"
LISTEN_WORDS: Final = 'an address and a port, such as "127.0.0.1:8501" or "[::1]:8501"'
SUCCESS_WORDS: Final = '"keep", "delete" or "move:DIR", DIR inside the watched directory'
FAILURE_WORDS: Final = '"keep" or "move:DIR", DIR inside the watched directory'
PYTHON_WORDS: Final = '"module:function", such as "thumbnails:make"'
HTTP_WORDS: Final = 'an address such as "https://example.org/take"'
INTERPRETER_WORDS: Final = 'the path of a Python, such as "/opt/ocr/bin/python"'
USER_WORDS: Final = "1 to 64 printable characters without a space at either end"


@dataclass(frozen=True, slots=True)
class Words:
    """What a field takes, as a person would say it."""

    text: str


def refused(allowed: str, hint: str = "") -> PydanticCustomError:
    """Return the error of a value that a type does not take, in a person's words."""
    return PydanticCustomError(REFUSED, "{allowed} {hint}", {"allowed": allowed, "hint": hint})


def is_written(info: ValidationInfo) -> bool:
    """Whether the value stands in a file, and is not one that our own code hands in."""
    return info.mode == "json"


# --- durations and sizes -------------------------------------------------------------------------


def seconds(text: str) -> float:
    """Seconds of a duration such as "500ms", "10s", "5m", "2h", "7d".

    Raises:
        ValueError: it is not a duration, or longer than ten years.

    """
    found = DURATION.fullmatch(text)
    if not found:
        raise ValueError(DURATION_WORDS)
    # divided, not multiplied by 0.001: "300ms" is 0.3
    amount = float(found[1])
    value = amount / 1000 if found[2] == "ms" else amount * SECONDS[found[2]]
    if value > DURATION_MOST:
        raise ValueError(f"{DURATION_WORDS}; 3650d at most")
    return value


def size(text: str) -> int:
    """Bytes of a size such as "64KiB" or "10MB".

    Raises:
        ValueError: it is not a size, or larger than a pebibyte.

    """
    found = SIZE.fullmatch(text)
    if not found:
        raise ValueError(SIZE_WORDS)
    value = Decimal(found[1]) * BYTES[found[2]]
    if value > SIZE_MOST or value != int(value):
        raise ValueError(f"{SIZE_WORDS}; whole bytes, 1024TiB at most")
    return int(value)


def duration_text(value: float) -> str:
    """Write seconds as a duration that `seconds` reads back exactly, in the largest whole unit."""
    for unit, length in SECONDS.items():
        if value >= length >= 1 and value % length == 0:
            return f"{int(value / length)}{unit}"
    if value == 0:
        return "0s"
    milliseconds = round(value * 1000)
    if milliseconds / 1000 == value:
        return f"{milliseconds}ms"
    return f"{Decimal(repr(value)):f}s"


def size_text(value: int) -> str:
    """Write bytes as a size, in the largest whole unit."""
    for unit, length in BYTES.items():
        if value >= length and value % length == 0:
            return f"{value // length}{unit}"
    return "0B"


def _reading(
    read: Callable[[str], float | int], words: str, example: str
) -> Callable[[object, ValidationInfo], object]:
    """Make a validator that takes text, and numbers only from our own code."""

    def validate(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            if is_written(info):
                raise refused(words, example.format(value) if _is_number(value) else "")
            return value
        try:
            return read(value)
        except ValueError as error:
            raise refused(words, str(error).removeprefix(words).removeprefix("; ")) from None

    return validate


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _above_zero(value: float) -> float:
    if value <= 0:
        raise refused(DURATION_WORDS, "it must be longer than nothing")
    return value


def _some(value: int) -> int:
    if value <= 0:
        raise refused(SIZE_WORDS, "it must be more than nothing")
    return value


Duration = Annotated[
    float,
    BeforeValidator(_reading(seconds, DURATION_WORDS, 'write "{}s" for seconds')),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
    Words(DURATION_WORDS),
]
"""Seconds, written as a duration."""

PositiveDuration = Annotated[Duration, AfterValidator(_above_zero)]

Size = Annotated[
    int,
    BeforeValidator(_reading(size, SIZE_WORDS, 'write "{}B" for bytes')),
    PlainSerializer(size_text, return_type=str, when_used="json"),
    Words(SIZE_WORDS),
]
"""Bytes, written as a size."""

OptionalSize = Annotated[
    Annotated[Size, AfterValidator(_some)] | None, BeforeValidator(lambda value: value or None)
]
"""A size, or None, which a file writes as ""."""


# --- paths ---------------------------------------------------------------------------------------


def _usable_path(value: object, info: ValidationInfo) -> object:
    if not is_written(info) or not isinstance(value, str):
        return value
    if not value:
        raise refused(PATH_WORDS)
    if "\0" in value:
        raise refused(PATH_WORDS, "it contains a NUL character")
    if value.startswith("~"):
        raise refused(PATH_WORDS, "~ is not expanded: write the whole path")
    return value


def _resolved(path: Path, info: ValidationInfo) -> Path:
    context: Mapping[str, Any] = info.context or {}
    return context["directory"] / path if "directory" in context else path


def path_text(path: Path) -> str:
    """Write a path for JSON: what is not UTF-8 in it comes out escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Location = Annotated[
    Path,
    BeforeValidator(_usable_path),
    AfterValidator(_resolved),
    PlainSerializer(path_text, return_type=str, when_used="json"),
    Words(PATH_WORDS),
]
"""A path; a relative one starts at the file's directory."""

OptionalLocation = Annotated[Location | None, BeforeValidator(_none_if_empty)]
"""A path, or None, which a file writes as ""."""


# --- texts with a form ---------------------------------------------------------------------------


AfterKind = Literal["keep", "delete", "move"]


def after_action(text: str) -> tuple[AfterKind, str]:
    """Read "keep", "delete" or "move:DIR": what to do, and the directory relative to the watch.

    Raises:
        ValueError: it is none of these, or the directory would lie outside the watch.

    """
    if text == "keep":
        return "keep", ""
    if text == "delete":
        return "delete", ""
    kind, _, directory = text.partition(":")
    parts = PurePosixPath(directory).parts
    if kind != "move" or not parts or ".." in parts or directory.startswith("/") or "\0" in text:
        raise ValueError(SUCCESS_WORDS)
    return "move", str(PurePosixPath(directory))


def _success_action(text: str) -> str:
    try:
        kind, directory = after_action(text)
    except ValueError:
        raise refused(SUCCESS_WORDS, _after_hint(text)) from None
    return f"move:{directory}" if kind == "move" else kind


def _failure_action(text: str) -> str:
    try:
        kind, directory = after_action(text)
    except ValueError:
        raise refused(FAILURE_WORDS, _after_hint(text)) from None
    if kind == "delete":
        raise refused(FAILURE_WORDS, "a failed file is never deleted")
    return f"move:{directory}" if kind == "move" else kind


def _after_hint(text: str) -> str:
    kind, _, directory = text.partition(":")
    if kind == "move" and (directory.startswith("/") or ".." in directory.split("/")):
        return "the directory is relative to the watch and stays inside it"
    return ""


def host_and_port(text: str) -> tuple[str, int]:
    """Read "127.0.0.1:8501", "[::1]:8501" or "localhost:8501". Port 0 lets the system choose.

    Raises:
        ValueError: it is not a host and a port.

    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ip_address(host).version != 6:  # noqa: PLR2004 - the version's own name
            raise ValueError(LISTEN_WORDS)
    elif ":" in host:
        raise ValueError(LISTEN_WORDS)
    if not colon or not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host):
        raise ValueError(LISTEN_WORDS)
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 - 16 bits
        raise ValueError(LISTEN_WORDS)
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(text: str) -> str:
    try:
        host_and_port(text)
    except ValueError:
        raise refused(LISTEN_WORDS) from None
    return text


def _python_target(text: str) -> str:
    module, colon, function = text.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), function]):
        raise refused(PYTHON_WORDS)
    return text


def _http_target(text: str) -> str:
    if not is_url(text):
        raise refused(HTTP_WORDS)
    if "#" in text:
        raise refused(HTTP_WORDS, "what follows # is never sent")
    return text


def _interpreter(text: str, info: ValidationInfo) -> str:
    if "\0" in text:
        raise refused(INTERPRETER_WORDS, "it contains a NUL character")
    if text.startswith("~"):
        raise refused(INTERPRETER_WORDS, "~ is not expanded: write the whole path")
    return str(_resolved(Path(text), info)) if "/" in text else text


def _user_name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise refused(USER_WORDS)
    return text


SuccessAction = Annotated[str, AfterValidator(_success_action), Words(SUCCESS_WORDS)]
FailureAction = Annotated[str, AfterValidator(_failure_action), Words(FAILURE_WORDS)]
Listen = Annotated[str, AfterValidator(_listen), Words(LISTEN_WORDS)]
HttpTarget = Annotated[str, AfterValidator(_http_target), Words(HTTP_WORDS)]
Interpreter = Annotated[str, AfterValidator(_interpreter), Words(INTERPRETER_WORDS)]
"""A program: a name that PATH knows, or a path; empty: the daemon's own Python."""

PythonTarget = Annotated[str, AfterValidator(_python_target), Words(PYTHON_WORDS)]
UserName = Annotated[str, AfterValidator(_user_name), Words(USER_WORDS)]
