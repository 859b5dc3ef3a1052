"""Logs are events with fields; a value can neither forge a line nor drive a terminal."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.runtime import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "a\nb\x1b[31m\u202ered"


def a_record(name: str = "pq_daemon.producer.scanning", **fields: Any) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": name, "msg": "file accepted", "levelno": 20, "levelname": "INFO"} | fields
    )
    record.created = 1_774_000_000.123
    return record


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    for handler in [h for h in logging.getLogger().handlers if getattr(h, "ours", False)]:
        logging.getLogger().removeHandler(handler)
        handler.close()
    logging.getLogger().setLevel(level)


def test_json_lines_carry_room_and_fields() -> None:
    line = json.loads(logs.JsonLines().format(a_record(job=17, name_shown="x")))
    assert line == {
        "at": "2026-03-20T09:46:40.123Z", "level": "info", "room": "producer",
        "event": "file accepted", "job": 17, "name_shown": "x",
    }  # fmt: skip


def test_what_others_log_has_the_room_library() -> None:
    assert logs.room("aiohttp.server") == "library"
    assert logs.room("pq_daemon") == "daemon"


@pytest.mark.parametrize("form", [logs.JsonLines(), logs.TextLines()])
def test_a_hostile_value_stays_one_plain_line(form: logging.Formatter) -> None:
    line = form.format(a_record(path=HOSTILE))
    assert "\n" not in line
    assert "\x1b" not in line


def test_text_escapes_direction_marks_too() -> None:
    assert "\u202e" not in logs.TextLines().format(a_record(path=HOSTILE))


def test_configure_again_reopens_the_file(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "pq.log"
    logs.configure(level="info", form="json", file=file)
    logging.getLogger("pq_daemon.test").info("one")
    file.rename(tmp_path / "rotated")
    logs.configure(level="warning", form="json", file=file)
    logging.getLogger("pq_daemon.test").info("not at this level")
    logging.getLogger("pq_daemon.test").warning("two")
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["two"]
    assert "one" in (tmp_path / "rotated").read_text()
