"""The scanner that knows where keys stand: nothing inside a value may mislead it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.config import notation
from pq_daemon.config.locating import KeyPath, locate

TRICKY = (Path(__file__).parent / "tricky.toml").read_text(encoding="utf-8")

LINES: dict[KeyPath, int] = {
    ("top",): 2,
    ("date",): 3,
    ("daemon",): 4,
    ("daemon", "state_dir"): 5,
    ("daemon", "text"): 6,
    ("daemon", "literal"): 11,
    ("store",): 14,
    ("store", "retention"): 15,
    ("store", "retention", "succeeded"): 15,
    ("store", "retention", "audit"): 15,
    ("store", "retention", "inner", "deep", 1): 15,
    ("store", "quoted key"): 16,
    ("store", "escaped"): 17,
    ("watch",): 19,
    ("watch", 0): 19,
    ("watch", 0, "include"): 21,
    ("watch", 0, "include", 0): 22,
    ("watch", 0, "include", 1): 23,
    ("watch", 0, "include", 2): 23,
    ("watch", 0, "include", 2, 0): 24,
    ("watch", 0, "after"): 26,
    ("watch", 0, "sub", "x"): 28,
    ("watch", 1): 29,
    ("watch", 1, "name"): 30,
    ("watch", 1, "a", "b", "c"): 31,
    ("watch", 1, "inner", 0): 32,
    ("watch", 1, "inner", 1, "last"): 34,
    ("queue", "a.b", "backoff", "base"): 36,
    ("queue", "plain"): 37,
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_nothing_inside_a_value_misleads_it(ends: str) -> None:
    text = TRICKY.replace("\n", ends)
    raw = tomllib.loads(text)
    locations = locate(text)
    assert {path: locations.line(path) for path in paths(raw) if path in LINES} == LINES


def test_the_span_of_a_value_is_exact() -> None:
    locations = locate(TRICKY)
    for path, value in paths(tomllib.loads(TRICKY)).items():
        place = locations.place(path)
        if place is None or isinstance(value, dict) or TRICKY[place.start] in "[{":
            continue
        assert tomllib.loads(f"x = {TRICKY[place.start : place.end]}")["x"] == value


def test_a_key_that_is_not_there_stands_at_its_table() -> None:
    locations = locate(TRICKY)
    assert locations.line(("watch", 1, "path")) == 29
    assert locations.line(("queue", "plain", "command")) == 37
    assert locations.line(("server", "listen")) is None


def paths(value: Any, above: KeyPath = ()) -> dict[KeyPath, Any]:
    """Return every key and item of what tomllib read."""
    found: dict[KeyPath, Any] = {above: value} if above else {}
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for step, member in members:
        inner = isinstance(member, (dict, list))
        found |= paths(member, (*above, step)) if inner else {(*above, step): member}
    return found


# --- any TOML ------------------------------------------------------------------------------------

KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,5}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
CONFUSING = st.lists(
    st.sampled_from(
        ["[", "]", "{", "}", "#", "=", ",", ".", '"', "'", "\\", "\n", "x", '"""', "'''"]
    )
).map("".join)
BASIC = st.one_of(CONFUSING, st.text(st.characters(exclude_categories=["Cs"]))).map(notation.string)
LITERAL = CONFUSING.filter(lambda text: not set("'\n") & set(text)).map(lambda text: f"'{text}'")
LONG = CONFUSING.map(lambda text: '"""\n' + text.replace("\\", "\\\\").replace('"', '\\"') + '"""')
LONG_LITERAL = CONFUSING.filter(lambda text: "'" not in text).map(lambda text: f"'''{text}'''")
SCALARS = st.one_of(
    BASIC,
    LITERAL,
    LONG,
    LONG_LITERAL,
    st.sampled_from(["1", "-0.5", "true", "1979-05-27T07:32:00Z", "07:32:00", "nan", "0xff"]),
)
BLANKS = st.sampled_from(["", " ", "\n", " # ] } [x]\n  "])


def lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(BLANKS, inner, BLANKS), max_size=3)
    return st.tuples(items, BLANKS).map(
        lambda parts: "[" + ",".join("".join(item) for item in parts[0]) + parts[1] + "]"
    )


def inline_tables(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.dictionaries(KEYS, inner, max_size=3).map(
        lambda pairs: "{" + ", ".join(f"{notation.key(k)} = {v}" for k, v in pairs.items()) + "}"
    )


VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(lists(inner), inline_tables(inner)), max_leaves=5
)
BODIES = st.dictionaries(KEYS, VALUES, max_size=4)
TABLES = st.lists(st.tuples(KEYS, st.booleans(), BODIES), max_size=5, unique_by=lambda t: t[0])


@given(TABLES, st.integers(1, 3), st.sampled_from(["\n", "\r\n"]))
def test_each_key_is_found_on_its_line(
    tables: list[tuple[str, bool, dict[str, str]]], copies: int, ends: str
) -> None:
    text, lines = written(tables, copies)
    locations = locate(text.replace("\n", ends))
    assert {path: locations.line(path) for path in lines} == lines


@given(TABLES, st.integers(1, 3))
def test_each_value_lies_in_its_span(
    tables: list[tuple[str, bool, dict[str, str]]], copies: int
) -> None:
    text, lines = written(tables, copies)
    locations = locate(text)
    assert all(locations.place(path) for path in lines)
    for path, value in paths(tomllib.loads(text)).items():
        place = locations.place(path)
        if path in lines and place is not None and text[place.key] != "[":  # not a header
            read = tomllib.loads(f"x = {text[place.start : place.end]}")["x"]
            assert repr(read) == repr(value)


def written(
    tables: list[tuple[str, bool, dict[str, str]]], copies: int
) -> tuple[str, dict[KeyPath, int]]:
    """Write tables, arrays of tables several times; tell the line of every key of them."""
    text = "# the beginning\n"
    lines: dict[KeyPath, int] = {}
    for name, is_list, body in tables:
        for number in range(copies if is_list else 1):
            way: KeyPath = (name, number) if is_list else (name,)
            lines[way] = text.count("\n") + 1
            header = f"[{notation.key(name)}]"
            text += f"[{header}]\n" if is_list else f"{header} # = [\n"
            for key, value in body.items():
                lines[(*way, key)] = text.count("\n") + 1
                text += f"  {notation.key(key)}\t= {value} # {key!a}\n"
    return text, lines
