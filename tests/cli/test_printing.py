"""What commands write: whatever a file is called, it never drives the terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import termios
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pq_daemon.cli import printing

if TYPE_CHECKING:
    from collections.abc import Iterator

WILD = "\x1b]0;owned\x07 \u202egnp.exe\r\n\x9b2J 名前.txt"


class Screen:
    """What was written to a terminal."""

    text = ""


@contextmanager
def terminal() -> Iterator[Screen]:
    """Have a real terminal as stdout, 60 columns wide, for as long as the block runs."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (25, 60))
    screen = Screen()
    with open(theirs, "w", encoding="utf-8", newline="") as stdout, redirect_stdout(stdout):  # noqa: PTH123
        yield screen
    screen.text = _all_of(ours).decode().replace("\r\n", "\n")
    os.close(ours)


def _all_of(terminal: int) -> bytes:
    content = b""
    with suppress(OSError):  # the terminal has lost its last writer
        while more := os.read(terminal, 100_000):
            content += more
    return content


def test_a_line_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say(WILD)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.rstrip("\n").isprintable()
    assert "名前.txt" in out


def test_a_table_escapes_its_cells_and_lines_them_up(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(("ID", "NAME", "AGE"), [(1, "名前.txt", "3s"), (22, "a\nb", None)])
    assert capsys.readouterr().out == "ID  NAME      AGE\n1   名前.txt  3s\n22  a\\nb\n"


def test_on_a_terminal_a_row_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    name = "directory/" * 12 + "the-end.txt"
    with terminal() as screen:
        printing.table(("ID", "NAME", "AGE"), [(1, name, "3s")], elastic=1)
    lines = screen.text.splitlines()
    assert all(printing.width(line) <= 60 for line in lines)
    assert lines[1].startswith("1   directory/")
    assert "the-end.txt  3s" in lines[1]


def test_into_a_pipe_nothing_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 500
    printing.table(("NAME",), [(name,)])
    assert name in capsys.readouterr().out


def test_a_shortened_name_keeps_its_end_and_fits_wide_characters() -> None:
    assert printing.shortened("abcdefghij", 5) == "ab…ij"
    assert printing.shortened("abc", 5) == "abc"
    for most in range(1, 20):
        assert printing.width(printing.shortened("名" * 10 + "a" * 10, most)) <= most


def test_raw_output_goes_into_a_pipe_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256))
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", pipe)
    printing.raw(content)
    assert pipe.buffer.getvalue() == content


def test_raw_output_cannot_drive_a_terminal() -> None:
    with terminal() as screen:
        printing.raw(b"one\ttwo\nthree\x1b[2J\xff\x07\n")
    assert screen.text == "one\ttwo\nthree\\x1b[2J\\xff\\x07\n"


def test_an_answer_is_passed_on_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    body = '{"name":"\x9b名","n":1.0}'
    printing.answer(body)
    assert capsys.readouterr().out == body + "\n"


def test_an_answer_on_a_terminal_says_the_same_in_escapes() -> None:
    with terminal() as screen:
        printing.answer('{"name":"\x9b\x7f\U000e0001名"}')
    line = screen.text
    assert line.rstrip("\n").isprintable()
    assert json.loads(line) == {"name": "\x9b\x7f\U000e0001名"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.42, "420ms"),
        (1, "1s"),
        (1.54, "1.5s"),
        (9.96, "10s"),
        (59.6, "1m"),
        (200, "3m 20s"),
        (3600, "1h"),
        (7500, "2h 5m"),
        (7201, "2h"),
        (86400 * 3 + 3600 * 4 + 59, "3d 4h"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert printing.duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")],
)
def test_sizes_as_people_say_them(amount: int | None, text: str) -> None:
    assert printing.size(amount) == text


def test_ages_look_back_and_ahead() -> None:
    def at(seconds: float) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    assert printing.age(at(-120)) == "2m"
    assert printing.age(at(7260.5)) == "in 2h 1m"
    assert printing.age(None) == ""
    assert printing.between(at(-90), at(-30)) == "1m"
