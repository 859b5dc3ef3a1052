"""The command line: options before and after the command, and what a wrong word is answered."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pq_daemon.cli import main, parsing
from pq_daemon.cli.moments import understood

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    "line",
    [
        "--json --config a.toml --url http://x jobs --limit 3",
        "jobs --limit 3 --json --config a.toml --url http://x",
        "--json jobs --limit 3 --url http://x --config a.toml",
    ],
)
def test_common_options_stand_before_or_after_the_command(line: str) -> None:
    arguments = parsing.parse(line.split())
    assert (arguments.json, arguments.config, arguments.url) == (True, "a.toml", "http://x")
    assert arguments.limit == 3


def test_the_common_options_have_their_defaults() -> None:
    arguments = parsing.parse(["queues"])
    assert (arguments.json, arguments.config, arguments.url) == (False, None, None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("job", 'did you mean "jobs"?'),
        ("--config pause.toml relaod", 'did you mean "reload"?'),
        ("xyzzy", "there are: run, check"),
        ("retry", "ID"),
        ("retry twelve", "no job id"),
        ("show 1 2", "unrecognized"),
        ("jobs --state done", "held"),
        ("jobs --limit 0", "number of items"),
        ("add q --payload {", "not JSON"),
        ("add q x --at soon", "is no time"),
        ("pause", "required"),
        ("--url localhost:8501 jobs", "no address"),
        ("--url ftp://x jobs", "no address"),
        ("jobs --url http://x/api/v1", "no address"),
        ("logs --attempt 2", "name its ID"),
        ("pause a --all", "not allowed"),
        ("", "COMMAND"),
    ],
)
def test_a_wrong_line_is_a_usage_error_that_helps(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert said in capsys.readouterr().err


def test_add_wants_a_path_or_a_payload(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "files"]) == 2
    assert main(["add", "files", "a.txt", "--payload", "{}"]) == 2
    assert "one of them" in capsys.readouterr().err


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "exit status: 0 done" in capsys.readouterr().out
    assert main(["jobs", "--help"]) == 0
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("+90s", NOON + timedelta(seconds=90)),
        ("+2h", NOON + timedelta(hours=2)),
        ("18:30", NOON.replace(hour=18, minute=30)),
        ("11:00", NOON.replace(hour=11) + timedelta(days=1)),
        ("2030-01-31T08:00Z", datetime.fromisoformat("2030-01-31T08:00+00:00")),
    ],
)
def test_times_as_people_write_them(text: str, moment: datetime) -> None:
    assert understood(text, NOON) == moment


def test_a_time_without_a_zone_is_local() -> None:
    assert understood("2030-01-31T08:00", NOON) == datetime(2030, 1, 31, 8).astimezone()


@pytest.mark.parametrize("text", ["soon", "+soon", "25:00", "+", "-5m", "2030-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says, it is told in other words
        understood(text, NOON)
