"""Writing a password hash into config.toml: the one place where pq changes a person's file.

Only the `[[user]]` entry changes; comments, order, blanks and line ends stay as they are. The new
text is read again and compared before it takes the file's place, and takes it whole or not at all.
"""

from __future__ import annotations

import copy
import os
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from pq_daemon.config import notation
from pq_daemon.config.locating import locate
from pq_daemon.config.problems import ConfigurationError, file_problem
from pq_daemon.config.reading import read_text, read_toml
from pq_daemon.config.settings import UserSettings
from pq_daemon.errors import ConflictError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.config.locating import Locations
    from pq_daemon.config.settings import Role

Entry = dict[str, str]
Edit = tuple[int, int, str]
FORM: Final = "[[user]] tables"


def set_password(path: Path, user: str, password_hash: str, role: Role | None = None) -> None:
    """Create or change the `[[user]]` entry in a configuration file.

    Without a role an entry keeps its own; a new one gets "manager" when it is the file's first,
    "viewer" otherwise. Blocking.

    Raises:
        ConfigurationError: the file cannot be read, understood or replaced.
        ConflictError: somebody else changed the file meanwhile.
        InvalidRequestError: the name or role is not possible.

    """
    target = Path(os.path.realpath(path))
    seen = _look(path, target)
    text = read_text(target)
    raw = read_toml(text, path)
    try:
        changed = with_password(text, raw, user, password_hash, role)
    except ValueError as error:
        problem = file_problem("cannot be changed", FORM, hint=str(error))
        raise ConfigurationError(path, (problem,)) from None
    try:
        _replace(target, changed, seen)
    except OSError as error:
        problem = file_problem(f"cannot be changed: {error.strerror or error}")
        raise ConfigurationError(path, (problem,)) from None


def with_password(
    text: str, raw: dict[str, Any], user: str, password_hash: str, role: Role | None
) -> str:
    """Return the text with the entry in it.

    Raises:
        InvalidRequestError: the name or role is not possible.
        ValueError: the text has users in a form that is not understood.

    """
    users = raw.get("user", [])
    if not isinstance(users, list) or not all(isinstance(entry, dict) for entry in users):
        raise ValueError("the users in it are written in another form")
    numbers = [place for place, entry in enumerate(users) if entry.get("name") == user]
    if len(numbers) > 1:
        raise ValueError(f"there are {len(numbers)} users of that name")
    wanted = copy.deepcopy(raw)
    if numbers:
        values = {"password_hash": password_hash} | ({"role": role} if role else {})
        entry = wanted["user"][numbers[0]]
        entry |= values
        edits = _changes(text, numbers[0], values)
    else:
        entry = {"name": user, "role": role or ("viewer" if users else "manager")}
        entry["password_hash"] = password_hash
        wanted.setdefault("user", []).append(entry)
        edits = [_addition(text, len(users), is_list="user" in raw, entry=entry)]
    _check(entry)
    changed = _edited(text, edits)
    if tomllib.loads(changed) != wanted:
        raise ValueError("the change would have changed something else, too")
    return changed


def _check(entry: Entry) -> None:
    try:
        UserSettings.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequestError(f"{first['loc'][0]}: {first['msg']}") from None


def _changes(text: str, number: int, values: Entry) -> list[Edit]:
    locations = locate(text)
    return [_change(text, locations, number, key, value) for key, value in values.items()]


def _change(text: str, locations: Locations, number: int, key: str, value: str) -> Edit:
    place = locations.place(("user", number, key))
    if place is not None:
        return place.start, place.end, notation.string(value)
    name = locations.place(("user", number, "name"))
    table = locations.place(("user", number))
    if name is None or table is None:
        raise ValueError("the entry was not found in the text")
    pair = f"{key} = {notation.string(value)}"
    if text[table.start] == "{":
        return name.end, name.end, f", {pair}"
    end = text.find("\n", name.end)
    if end < 0:
        return len(text), len(text), f"{_newline(text)}{pair}"
    return end + 1, end + 1, f"{pair}{_newline(text)}"


def _addition(text: str, count: int, *, is_list: bool, entry: Entry) -> Edit:
    pairs = [f"{key} = {notation.string(value)}" for key, value in entry.items()]
    users = locate(text).place(("user",)) if is_list else None
    if users is not None and not text.startswith("[[", users.key):
        return _list_addition(text, count, users.end, f"{{ {', '.join(pairs)} }}")
    newline = _newline(text)
    before = newline * (0 if not text else 1 if text.endswith("\n") else 2)
    lines = ["[[user]]", *pairs]
    return len(text), len(text), before + "".join(line + newline for line in lines)


def _list_addition(text: str, count: int, end: int, entry: str) -> Edit:
    """Add to `user = [{…}]`, whose closing bracket stands before `end`."""
    if count == 0:
        return end - 1, end - 1, entry
    last = locate(text).place(("user", count - 1))
    if last is None:
        raise ValueError("the entry was not found in the text")
    return last.end, last.end, f", {entry}"


def _edited(text: str, edits: Sequence[Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


# --- replacing the file --------------------------------------------------------------------------


def _look(path: Path, target: Path) -> os.stat_result:
    try:
        return target.stat()
    except OSError as error:
        problem = file_problem(f"cannot be read: {error.strerror or error}")
        raise ConfigurationError(path, (problem,)) from None


def _replace(target: Path, text: str, seen: os.stat_result) -> None:
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    temp = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            _keep_rights(fd, seen)
            file.flush()
            os.fsync(fd)
        _check_unchanged(target, seen)
        temp.replace(target)
    finally:
        with suppress(OSError):
            temp.unlink(missing_ok=True)
    _sync_directory(target.parent)


def _keep_rights(fd: int, seen: os.stat_result) -> None:
    made = os.fstat(fd)
    if (made.st_uid, made.st_gid) != (seen.st_uid, seen.st_gid):
        os.fchown(fd, seen.st_uid, seen.st_gid)
    os.fchmod(fd, seen.st_mode & 0o7777)


def _check_unchanged(target: Path, seen: os.stat_result) -> None:
    now = target.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (seen.st_ino, seen.st_size, seen.st_mtime_ns):
        raise ConflictError(f"{target} was changed by somebody else meanwhile; nothing was written")


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
