"""Logs are events: a short constant message, values as fields, and the room it comes from.

    log.info("job started", extra={"job": 17, "slot": 2})

Text on a terminal, one JSON object a line otherwise. A record's room is the part of the logger's
name after `pq_daemon.`; what others log (aiohttp, asyncio) has the room `library`. Values are
escaped: a file name cannot forge a line or drive a terminal.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from pq_daemon.runtime.names import one_line

if TYPE_CHECKING:
    from pathlib import Path

FILE_SIZE: Final = 10 * 10**6
FILES: Final = 5
STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def room(logger: str) -> str:
    first, _, rest = logger.partition(".")
    return (rest.partition(".")[0] or "daemon") if first == "pq_daemon" else "library"


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in STANDARD}


def moment(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": moment(record),
            "level": record.levelname.lower(),
            "room": room(record.name),
            "event": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values = " ".join(f"{key}={_plain(value)}" for key, value in fields(record).items())
        message = one_line(record.getMessage())
        line = f"{moment(record)} {record.levelname:<7} {room(record.name):<9} {message}"
        line = f"{line}  {values}" if values else line
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _plain(value: object) -> str:
    text = one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def configure(
    *, level: str, form: Literal["auto", "text", "json"], file: Path | None = None
) -> None:
    """Set up all logging of the process; safe to call again (a reload), also reopens the file."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "ours", False)]:
        root.removeHandler(old)
        old.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(
                file, maxBytes=FILE_SIZE, backupCount=FILES - 1, encoding="utf-8"
            )
        )
    for handler in handlers:
        handler.ours = True  # type: ignore[attr-defined] # told apart from a test's handlers
        handler.setFormatter(TextLines() if as_text else JsonLines())
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel("WARNING")
