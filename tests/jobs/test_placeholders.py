"""Placeholders: values go in byte for byte, a template makes one argument, mistakes are told."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.jobs import placeholders
from pq_daemon.jobs.placeholders import KNOWN, PlaceholderError, expand, literal, names

NAMES = st.sampled_from(KNOWN)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.fixed_dictionaries({name: st.binary() for name in KNOWN})
PARTS = st.lists(
    st.one_of(NAMES.map(lambda name: (True, name)), TEXTS.map(lambda text: (False, text)))
)


@given(PARTS, VALUES)
def test_every_part_comes_out_in_its_place_and_values_stay_exact(
    parts: list[tuple[bool, str]], values: dict[str, bytes]
) -> None:
    template = "".join(f"{{{text}}}" if is_name else literal(text) for is_name, text in parts)
    wanted = b"".join(values[text] if is_name else text.encode() for is_name, text in parts)
    assert expand(template, values) == wanted
    assert names(template) == {text for is_name, text in parts if is_name}


@given(st.binary())
def test_a_value_is_never_read_as_a_template(value: bytes) -> None:
    assert expand("{path}", {"path": value}) == value
    assert expand("{path}", {"path": b"{name}{{}}" + value, "name": b"x"}) == b"{name}{{}}" + value


@given(TEXTS)
def test_any_template_expands_or_says_why_not(template: str) -> None:
    with suppress(PlaceholderError):
        expand(template, dict.fromkeys(names(template), b"value"))


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("", b""),
        ("--in={path}", b"--in=/in/a b\n.txt"),
        ("{{path}}", b"{path}"),
        ("{{{path}}}", b"{/in/a b\n.txt}"),
        ("a{{b}}c", b"a{b}c"),
        ("Zoë {path}", "Zoë /in/a b\n.txt".encode()),
    ],
)
def test_examples(template: str, wanted: bytes) -> None:
    assert expand(template, {"path": b"/in/a b\n.txt"}) == wanted


@pytest.mark.parametrize("template", ["{", "}", "a{b", "{path", "{{path}", "{path}}", "}{"])
def test_a_brace_that_stands_alone_is_an_error(template: str) -> None:
    with pytest.raises(PlaceholderError, match="stands alone at character"):
        names(template)
    with pytest.raises(PlaceholderError):
        expand(template, {"path": b""})


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(PlaceholderError, match=r"\{nope\} has no value here"):
        expand("{nope}", {})


def test_text_that_came_from_bytes_goes_back_to_them() -> None:
    template = literal(b"/srv/\xff{x}".decode("utf-8", "surrogateescape"))
    assert expand(template, {}) == b"/srv/\xff{x}"


def test_the_contract_names_these() -> None:
    wanted = "path name stem suffix parent relpath relparent job_id attempt output"
    assert " ".join(placeholders.KNOWN) == wanted
