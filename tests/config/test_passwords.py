"""Passwords, and the one place where pq changes a person's file."""

# ruff: noqa: E501 - the tables of cases read best with a case on each line

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.config import notation, password_entry
from pq_daemon.config.loading import ConfigurationError, load
from pq_daemon.config.password_entry import with_password
from pq_daemon.config.passwords import (
    DEMO_PASSWORD,
    demo_users,
    hash_password,
    is_hash,
    needs_rehash,
    set_password,
    uses_demo_password,
    verify,
)
from pq_daemon.errors import ConflictError, InvalidRequestError
from tests.config.texts import HASH, QUEUE, read

if TYPE_CHECKING:
    from pathlib import Path

NEW = HASH.replace("GII7", "AAAA")

# --- hashing -------------------------------------------------------------------------------------


def test_a_password_is_verified() -> None:
    made = hash_password("correct horse 🐴")
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert is_hash(made)
    assert verify(made, "correct horse 🐴")
    assert not verify(made, "correct horse")
    assert hash_password("correct horse 🐴") != made


@pytest.mark.parametrize(
    "broken", ["", "x", "$argon2id$", HASH[:-4], HASH.replace("m=19456", "m=x")]
)
def test_a_broken_hash_verifies_nothing(broken: str) -> None:
    assert not verify(broken, DEMO_PASSWORD)


def test_a_password_that_is_no_text_is_wrong() -> None:
    assert not verify(HASH, "\udcff")


def test_other_costs_are_renewed() -> None:
    assert not needs_rehash(HASH)
    assert needs_rehash(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x"))


def test_the_demo_password_is_known() -> None:
    settings = read(
        f'[[user]]\nname = "a"\npassword_hash = "{HASH}"\n'
        f'[[user]]\nname = "b"\npassword_hash = "{hash_password("other")}"\n'
    )
    assert [uses_demo_password(user) for user in settings.users] == [True, False]
    assert demo_users(settings) == ("a",)


# --- changing the text ---------------------------------------------------------------------------


def changed(text: str, user: str = "admin", role: Any = None) -> str:
    return with_password(text, tomllib.loads(text), user, NEW, role)


ENTRY = f"""\
# people
[[user]]                      # the first
name = "admin"                # not root
role = 'operator'  # for now
password_hash = '''{HASH}''' # old

[queue.files]
command = ["true"]
"""


def test_only_the_hash_changes() -> None:
    assert changed(ENTRY) == ENTRY.replace(f"'''{HASH}'''", f'"{NEW}"')


def test_only_hash_and_role_change() -> None:
    wanted = ENTRY.replace(f"'''{HASH}'''", f'"{NEW}"').replace("'operator'", '"manager"')
    assert changed(ENTRY, role="manager") == wanted


def test_a_role_that_was_not_written_comes_after_the_name() -> None:
    text = ENTRY.replace("role = 'operator'  # for now\n", "")
    wanted = text.replace("# not root\n", '# not root\nrole = "viewer"\n')
    assert changed(text, role="viewer") == wanted.replace(f"'''{HASH}'''", f'"{NEW}"')


def test_a_new_user_comes_last() -> None:
    added = f'\n[[user]]\nname = "zoe"\nrole = "viewer"\npassword_hash = "{NEW}"\n'
    assert changed(ENTRY, "zoe") == ENTRY + added
    assert changed(ENTRY.removesuffix("\n"), "zoe") == ENTRY + added


def test_the_first_user_is_the_manager() -> None:
    assert tomllib.loads(changed(QUEUE))["user"][0]["role"] == "manager"
    assert changed("") == f'[[user]]\nname = "admin"\nrole = "manager"\npassword_hash = "{NEW}"\n'
    assert tomllib.loads(changed(QUEUE, role="viewer"))["user"][0]["role"] == "viewer"


def test_line_ends_stay() -> None:
    text = changed(ENTRY.replace("\n", "\r\n"), "zoe")
    assert text.replace("\r\n", "").count("\n") == 0


@pytest.mark.parametrize(
    ("text", "user", "wanted"),
    [
        ('user = [{name = "admin", password_hash = "x"}] # end', "admin", 'user = [{name = "admin", password_hash = "NEW"}] # end'),
        ('user = [{name = "admin"}]', "admin", 'user = [{name = "admin", password_hash = "NEW"}]'),
        ("user = []", "zoe", 'user = [{ name = "zoe", role = "manager", password_hash = "NEW" }]'),
        ('user = [{name = "a"}, # a\n]', "zoe", 'user = [{name = "a"}, { name = "zoe", role = "viewer", password_hash = "NEW" }, # a\n]'),
        ('[[user]]\nname = "admin"', "admin", '[[user]]\nname = "admin"\npassword_hash = "NEW"'),
        ('[["user"]]\n"name" = "admin"\n', "admin", '[["user"]]\n"name" = "admin"\npassword_hash = "NEW"\n'),
    ],
)  # fmt: skip
def test_other_ways_to_write_users(text: str, user: str, wanted: str) -> None:
    assert changed(text, user).replace(NEW, "NEW") == wanted


@pytest.mark.parametrize(
    "text", ['[user]\nname = "admin"', "user = [1]", '[[user]]\nname="admin"\n[[user]]\nname="admin"', "user = 5"]
)  # fmt: skip
def test_what_is_not_understood_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match=r"form|of that name"):
        changed(text)


@pytest.mark.parametrize("user", ["", " a", "a\nb", "x" * 65])
def test_impossible_names(user: str) -> None:
    with pytest.raises(InvalidRequestError, match="name"):
        changed(ENTRY, user)


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@given(
    st.lists(NAMES, unique=True, max_size=4), NAMES, st.sampled_from([None, "viewer", "manager"])
)
def test_any_user_among_others(names: list[str], user: str, role: str | None) -> None:
    text = "".join(
        f'[[user]] # {name}\nname = {notation.string(name)}\npassword_hash = "{HASH}"\n\n'
        for name in names
    )
    after = tomllib.loads(changed(text, user, role))["user"]
    assert [entry["name"] for entry in after] == names + [user] * (user not in names)
    for entry in after:
        assert entry["password_hash"] == (NEW if entry["name"] == user else HASH)
        if entry["name"] == user and role:
            assert entry["role"] == role


# --- changing the file ---------------------------------------------------------------------------


def test_the_file_keeps_its_rights_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"# mine\n{QUEUE}")
    path.chmod(0o640)
    before = path.stat()
    set_password(path, "admin", hash_password("correct horse"))
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert after.st_ino != before.st_ino
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]
    user = load(path).users[0]
    assert (user.name, user.role) == ("admin", "manager")
    assert verify(user.password_hash, "correct horse")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(QUEUE)
    os.chown(path, 12345, 23456)
    set_password(path, "admin", HASH)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real/pq.toml"
    real.write_text(QUEUE)
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    set_password(link, "admin", HASH)
    assert link.is_symlink()
    assert load(real).users[0].name == "admin"


def test_a_file_that_somebody_changes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(QUEUE)
    seen = path.stat()
    path.write_text(f"# edited\n{QUEUE}")
    with pytest.raises(ConflictError, match="changed by somebody else"):
        password_entry._replace(path, "x = 1", seen)
    assert path.read_text() == f"# edited\n{QUEUE}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("x = ", "not TOML"),
        ('[user]\nname = "admin"', "another form"),
    ],
)
def test_a_file_that_cannot_be_changed(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        set_password(path, "admin", HASH)
    assert text is None or path.read_text() == text


def test_other_mistakes_in_the_file_do_not_keep_a_password_from_being_set(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[daemon]\nworkrs = 3\n")
    set_password(path, "admin", HASH)
    assert path.read_text().startswith("[daemon]\nworkrs = 3\n\n[[user]]\n")
