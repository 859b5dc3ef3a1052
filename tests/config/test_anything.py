"""Whatever stands in the file, it is either settings or problems that a person can read."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pq_daemon.config import notation
from pq_daemon.config.loading import ConfigurationError, Problem
from pq_daemon.config.tables import TABLES, inner_table, keys
from tests.config.texts import HASH, SOURCE, refused

KEYS = sorted({key for model in TABLES.values() for key in keys(model)})
INNER = sorted(
    {
        key
        for model in TABLES.values()
        for info in model.model_fields.values()
        for key in keys(inner_table(info) or model)
    }
)
TEXTS = st.one_of(
    st.sampled_from(["", "files", "a b", "in", "/in", "~", "auto", "5s", "0s", "1KiB", HASH]),
    st.sampled_from(["{path}", "{", "{output}", "m:f", "loop", "\0", "\n\x1b", "keep"]),
    st.sampled_from(["move:x", "move:/", "sqlite", "127.0.0.1:1", "192.168.1.1:1"]),
)
SCALARS = st.one_of(
    TEXTS,
    st.integers(-1, 2000),
    st.booleans(),
    st.sampled_from([0.5, float("nan"), float("inf"), 10**30]),
    st.just(date(2026, 11, 24)),
    st.just(datetime(2026, 11, 24, tzinfo=UTC)),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*INNER, "zz"]), inner, max_size=3),
    ),
    max_leaves=4,
)
BODIES = st.dictionaries(st.sampled_from([*KEYS, "zz"]), VALUES, max_size=6)
NAMED = st.tuples(TEXTS, BODIES).map(lambda pair: {**pair[1], "name": pair[0]})
FILES = st.fixed_dictionaries(
    {},
    optional={
        "daemon": st.one_of(BODIES, VALUES),
        "store": st.one_of(BODIES, VALUES),
        "server": st.one_of(BODIES, VALUES),
        "user": st.one_of(st.lists(st.one_of(NAMED, VALUES), max_size=3), VALUES),
        "watch": st.one_of(st.lists(st.one_of(NAMED, VALUES), max_size=3), VALUES),
        "queue": st.one_of(st.dictionaries(TEXTS, st.one_of(BODIES, VALUES), max_size=3), VALUES),
        "zz": VALUES,
    },
)


@given(FILES)
@settings(max_examples=300)
def test_anything_is_read_or_refused(file: dict[str, Any]) -> None:
    text = "".join(
        f"{notation.key(key)} = {notation.value(value)}\n" for key, value in file.items()
    )
    assert repr(tomllib.loads(text)) == repr(file)
    problems = refused(text)
    for problem, line in zip(problems, lines(problems), strict=True):
        assert line.isprintable()
        assert problem.line is not None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert all(line.isprintable() for line in lines(refused(text)))


def lines(problems: list[Problem]) -> list[str]:
    return ConfigurationError(SOURCE, tuple(problems)).lines()
