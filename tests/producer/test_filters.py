"""Names that are let through: a table of examples, and what must hold for every name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.producer.filters import (
    EXCLUDED,
    NOT_INCLUDED,
    TEMPORARY,
    Filter,
    compiled,
    is_temporary,
    matches_any,
)

NAMES = st.binary(min_size=1, max_size=255).filter(lambda n: b"/" not in n and b"\0" not in n)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(b"/".join)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*", "a.txt", True),
        ("*.pdf", "A.PDF", True),
        ("*.pdf", "deep/down/a.pdf", True),
        ("*.pdf", "a.pdf.txt", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("in/*.pdf", "in/a.pdf", True),
        ("in/*.pdf", "in/deep/a.pdf", False),
        ("in/*.pdf", "out/in/a.pdf", False),
        ("in/**/*.pdf", "in/a.pdf", True),
        ("in/**/*.pdf", "in/x/y/a.pdf", True),
        ("**/in/*", "in/a", True),
        ("**/in/*", "x/in/a", True),
        ("in/**", "in/x/y", True),
        ("in/**", "inner/x", False),
        ("/top.txt", "top.txt", True),
        ("/top/*", "sub/top/x", False),
        ("cache/", "cache/x/y", True),
        ("cache/", "cache", False),
        ("[ab]*", "beta", True),
        ("[!ab]*", "beta", False),
        ("[!ab]*", "gamma", True),
        ("[a-c]1", "B1", True),
        ("[z-a]1", "b1", False),
        ("[]x]y", "]y", True),
        ("[unclosed", "[unclosed", True),
        ("a.c", "abc", False),
        ("(x|y)", "x", False),
        ("*", "line\nbreak", True),
        ("ä*", "ÄRGER", True),
    ],
)
def test_a_pattern(pattern: str, path: str, matches: bool) -> None:
    assert matches_any([pattern], path) is matches


@pytest.mark.parametrize(
    "name",
    [".hidden", "a~", "a.part", "A.PART", "a.tmp", "a.crdownload", "a.filepart", "~$report.docx",
     ".a.txt.Xy12Zq", "sub/.a", ".~tmp~/a.txt", "sub/.rsync-partial/a.txt"],
)  # fmt: skip
def test_names_that_programs_give_to_unfinished_files(name: str) -> None:
    assert Filter().objection(name.encode()) == TEMPORARY
    assert Filter(builtin=False).objection(name.encode()) is None


@pytest.mark.parametrize("name", ["a.txt", ".git/config", "a.party", "tmp", "~a", "a.tmp/b", "$~a"])
def test_a_directory_is_never_judged(name: str) -> None:
    assert Filter().objection(name.encode()) is None


def test_exclude_wins_over_include() -> None:
    rule = Filter(include=("*.pdf",), exclude=("draft*",))
    assert rule.objection(b"a.pdf") is None
    assert rule.objection(b"Draft.pdf") == EXCLUDED
    assert rule.objection(b"a.txt") == NOT_INCLUDED


@given(PATHS)
def test_a_star_lets_every_name_through(path: bytes) -> None:
    assert Filter(builtin=False).objection(path) is None
    assert Filter(("**/*",), builtin=False).objection(path) is None


@given(PATHS)
def test_a_name_is_temporary_whatever_its_case(path: bytes) -> None:
    assert is_temporary(path + b".part")
    assert is_temporary(path + b".PART")


@given(NAMES, st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text))
def test_any_pattern_is_a_pattern(name: bytes, pattern: str) -> None:
    assert Filter((pattern,), builtin=False).objection(name) in {None, NOT_INCLUDED}


@given(st.text(st.characters(exclude_characters="*?[]/\0", codec="utf-8"), min_size=1))
def test_a_pattern_without_signs_means_itself(name: str) -> None:
    assert compiled(name).fullmatch(name)
    assert not compiled(name).fullmatch(name + "x")
