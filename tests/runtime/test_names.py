"""File names are bytes; what people see is text that loses nothing it need not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.runtime.filesystems import KINDS, filesystem
from pq_daemon.runtime.names import is_text, one_line, shown

if TYPE_CHECKING:
    from pathlib import Path


@given(st.binary())
def test_any_bytes_can_be_shown_and_encoded(name: bytes) -> None:
    shown(name).encode("utf-8")


@given(st.text())
def test_text_is_shown_as_it_is(name: str) -> None:
    try:
        raw = name.encode()
    except UnicodeEncodeError:  # lone surrogates are not text
        return
    assert shown(raw) == name
    assert is_text(raw)


def test_what_is_not_utf8_is_escaped() -> None:
    assert shown(b"\xff\xfe.bin") == "\\udcff\\udcfe.bin"
    assert not is_text(b"\xff\xfe.bin")


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert one_line(text).isprintable()


def test_the_filesystem_of_a_directory_is_known(tmp_path: Path) -> None:
    assert filesystem(tmp_path) in set(KINDS.values()) | {hex(0)}
    with pytest.raises(FileNotFoundError):
        filesystem(tmp_path / "missing")
