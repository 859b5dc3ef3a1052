"""The URL of an http queue, and the headers its env_file adds. Pure.

`${NAME}` in the URL stands for a variable of the env_file: at its beginning as it is (the whole
address may be the secret), elsewhere percent-encoded. A variable HEADER_X_API_KEY is the header
X-Api-Key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
HEADER: Final = "HEADER_"
SCHEMES: Final = frozenset({"http", "https"})
AS_IT_IS: Final = "".join(map(chr, range(33, 127)))
TAKEN: Final = frozenset({"content-length", "content-type", "transfer-encoding", "host", "pq-job"})
"""Headers that are ours to send."""


def variables(url: str) -> list[str]:
    return VARIABLE.findall(url)


def filled(url: str, secrets: Mapping[bytes, bytes]) -> str:
    """Put the secrets in. Every variable is there: the configuration was checked."""

    def value(found: re.Match[str]) -> str:
        secret = secrets.get(found[1].encode(), b"").decode()
        return quote(secret, safe=AS_IT_IS if found.start() == 0 else "")

    return VARIABLE.sub(value, url)


def is_url(text: str) -> bool:
    """Whether it is an http URL with a host, as far as one can tell before it is filled."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        return False
    if text.startswith("${"):
        return VARIABLE.match(text) is not None
    try:
        parts = urlsplit(VARIABLE.sub("x", text))
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def headers_of(secrets: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the headers that the variables are."""
    return {
        header: value.decode()
        for name, value in secrets.items()
        if (header := header_of(name.decode())) is not None
    }


def header_of(variable: str) -> str | None:
    """Return the header that a variable is, None when it is none."""
    name = variable.removeprefix(HEADER)
    if name == variable or not name.strip("_"):
        return None
    return name.replace("_", "-").title()
