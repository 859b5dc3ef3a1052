"""Settings and values without their secrets: for `GET /config`, messages and the log.

Hidden are password hashes, the values of environment variables and options whose names speak of a
secret, and who logs in at a URL. A secret in a plain argument cannot be told from any other word:
that is what env and env_file are for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config import notation
from pq_daemon.config.values import path_text

if TYPE_CHECKING:
    from pq_daemon.config.locating import KeyPath
    from pq_daemon.config.settings import Settings

HIDDEN: Final = "(hidden)"
SECRET: Final = re.compile(
    r"pass(?!ive)|secret|token|credential|auth(?!ors?(?![a-z]))|cookie|dsn"
    r"|(?<![a-z])(?:pwd?|keys?|salt)(?![a-z])|(?:api|ssh|private|access|encryption|signing)key",
    re.IGNORECASE,
)
USERINFO: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@")
PARAMETER: Final = re.compile(r"(?P<name>[?&;][^=&;#]*)=(?!\$\{\w+\}(?:[&;#]|$))[^&;#]*")
OPTION: Final = re.compile(r"(?P<name>--?[A-Za-z][\w-]*)=.*", re.DOTALL)


def is_secret(name: str) -> bool:
    """Whether a variable or option of this name is likely to hold a secret."""
    return SECRET.search(name) is not None


def masked(settings: Settings) -> dict[str, Any]:
    """Return settings as JSON, in the words of config.toml, secrets hidden."""
    tables = settings.model_dump(
        mode="json", exclude={"source": True, "text": True, "queues": {"__all__": {"name"}}}
    )
    return {
        "source": path_text(settings.source) if settings.source else None,
        "daemon": masked_value(tables["daemon"]),
        "store": masked_value(tables["store"]),
        "server": masked_value(tables["server"]),
        "user": masked_value(tables["users"]),
        "watch": masked_value(tables["watches"]),
        "queue": masked_value(tables["queues"]),
    }


def masked_value(value: Any, name: str = "") -> Any:
    """Hide what is secret in a JSON value; `name` is the key it stands under."""
    if isinstance(value, dict):
        return {key: _member(key, item, name) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _arguments(value) if name == "command" else [masked_value(item) for item in value]
    if isinstance(value, str) and name == "http":
        value = PARAMETER.sub(_parameter, value)
    return _without_userinfo(value) if isinstance(value, str) else value


def _parameter(found: re.Match[str]) -> str:
    return f"{found['name']}={HIDDEN}" if is_secret(found["name"]) else found[0]


def _member(key: str, item: Any, table: str) -> Any:
    if key == "password_hash" or (table == "env" and is_secret(key)):
        return HIDDEN
    return masked_value(item, key)


def _arguments(arguments: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Hide `--password=x`, and `x` in `--password x`."""
    shown: list[Any] = []
    hide = False
    for argument in arguments:
        if hide or not isinstance(argument, str):
            shown.append(HIDDEN if hide else argument)
            hide = False
            continue
        option = OPTION.fullmatch(argument)
        named = option["name"] if option else argument
        secret = named.startswith("-") and is_secret(named)
        shown.append(f"{named}={HIDDEN}" if option and secret else _without_userinfo(argument))
        hide = secret and not option
    return shown


def _without_userinfo(text: str) -> str:
    return USERINFO.sub(r"\g<scheme>***@", text)


def shown_value(path: KeyPath, value: Any) -> str:
    """Write a value that was found, for a message: short, and no secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "a list of tables"
    if "password_hash" in path or "env" in path[2:]:
        return HIDDEN
    return notation.short(notation.value(masked_value(value, str(path[-1]))))
