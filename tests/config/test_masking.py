"""What others may see of a configuration."""

# ruff: noqa: E501 - the tables of cases read best with a case on each line

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pq_daemon.config.masking import HIDDEN, is_secret, masked, masked_value
from tests.config.texts import HASH, QUEUE, read

TEXT = f"""\
[[user]]
name = "admin"
password_hash = "{HASH}"
[[watch]]
name = "files"
path = "in"
{QUEUE}timeout = "90s"
env = {{ API_KEY = "k3y", AWS_SECRET_ACCESS_KEY = "s3cret", DB = "postgres://u:pw@db/x", MODE = "fast" }}
[queue.push]
command = ["push", "--password=hunter2", "--token", "t0ken", "https://me:pw@host/?a=b@c", "--level=3"]
"""


def test_no_secret_is_in_it() -> None:
    text = json.dumps(masked(read(TEXT)))
    for secret in [HASH, "k3y", "s3cret", "u:pw", "hunter2", "t0ken", "me:pw"]:
        assert secret not in text


def test_everything_else_is_there_in_the_words_of_the_file() -> None:
    tables = masked(read(TEXT))
    assert list(tables) == ["source", "daemon", "store", "server", "user", "watch", "queue"]
    assert tables["source"] == "/srv/pq/config.toml"
    assert tables["user"] == [{"name": "admin", "role": "viewer", "password_hash": HIDDEN}]
    assert tables["watch"][0]["path"] == "/srv/pq/in"
    assert tables["queue"]["files"]["timeout"] == "90s"
    assert tables["queue"]["files"]["env"] == {
        "API_KEY": HIDDEN,
        "AWS_SECRET_ACCESS_KEY": HIDDEN,
        "DB": "postgres://***@db/x",
        "MODE": "fast",
    }
    assert tables["queue"]["push"]["command"] == [
        "push",
        f"--password={HIDDEN}",
        "--token",
        HIDDEN,
        "https://***@host/?a=b@c",
        "--level=3",
    ]


def test_secrets_in_an_address_are_hidden() -> None:
    url = "https://me:pw@host/x?a=b&api_key=hunter2&token=${TOKEN}"
    text = read(f'[queue.q]\nhttp = "{url.replace("&token=${TOKEN}", "")}"')
    assert masked(text)["queue"]["q"]["http"] == f"https://***@host/x?a=b&api_key={HIDDEN}"
    assert masked_value(url, "http").endswith("&token=${TOKEN}")


def test_a_directory_that_is_not_utf8_can_be_shown() -> None:
    source = Path(b"/srv/\xff/config.toml".decode("utf-8", "surrogateescape"))
    tables = masked(read(QUEUE, source))
    assert tables["source"] == "/srv/\\xff/config.toml"
    json.dumps(tables).encode()


@pytest.mark.parametrize(
    "name",
    ["PASSWORD", "DB_PASS", "GITHUB_TOKEN", "apiKey", "KEY", "SSH_KEY_FILE", "PW", "AUTH", "COOKIE", "SENTRY_DSN", "SALT"],
)  # fmt: skip
def test_names_that_look_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["MODE", "KEYBOARD", "MONKEY", "AUTHOR", "PASSIVE", "LANG", "PATH"]
)
def test_names_that_do_not(name: str) -> None:
    assert not is_secret(name)


def test_values_of_other_kinds_stay() -> None:
    assert masked_value({"a": [1, None, True, {"b": 2.5}]}) == {"a": [1, None, True, {"b": 2.5}]}
