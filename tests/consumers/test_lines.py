"""`::progress` and `::result`, wherever the reads cut them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pq_daemon.consumers.lines import LINE_MOST, Listener, Refused, Result, Said, understand
from pq_daemon.jobs.model import Progress


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"::progress 42 some text", Progress(42.0, "some text")),
        (b"::progress 42.5", Progress(42.5, "")),
        (b"::progress 100%  done \r", Progress(100.0, "done")),
        (b"::progress 250 x", Progress(100.0, "x")),
        (b"::progress 1 \xff", Progress(1.0, "\ufffd")),
        (b'::result {"a": [1, null]}', Result('{"a": [1, null]}')),
        (b"::result  3 \r", Result("3")),
        (b"something ::progress 1", None),
        (b" ::progress 1", None),
        (b":progress 1", None),
        (b"::else", None),
        (b"", None),
    ],
)
def test_what_a_line_says(line: bytes, said: Said | None) -> None:
    assert understand(line) == said


@pytest.mark.parametrize(
    "line",
    [
        b"::progress", b"::progress many", b"::progress -1", b"::progressive", b"::result ",
        b"::result {", b"::result NaN", b"::result \xff", b"::result " + b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(line: bytes) -> None:
    assert isinstance(understand(line), Refused)


pieces = some.sampled_from(
    [b"::progress 4 x", b"\n", b":", b"::", b"a", b"\n::progress 7\n", b"::result {}", b"\r\n",
     b"::result {", b"\n\n", b"x::progress 3\n"]
)  # fmt: skip


@settings(max_examples=1000)
@given(some.lists(pieces, max_size=12), some.lists(some.integers(1, 9), min_size=1, max_size=9))
def test_where_the_reads_cut_makes_no_difference(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    listener, heard, at, turn = Listener(), [], 0, 0
    while at < len(data):
        step = cuts[turn % len(cuts)]
        heard += listener.hear(data[at : at + step])
        at, turn = at + step, turn + 1
    heard += listener.end()
    assert heard == [said for line in data.split(b"\n") if (said := understand(line))]


def test_of_many_lines_at_once_the_last_are_heard() -> None:
    heard = Listener().hear(b"".join(b"::progress %d\n" % (n % 100) for n in range(5000)))
    assert len(heard) == 50
    assert heard[-1] == Progress(99.0, "")


def test_a_line_without_an_end_is_not_kept() -> None:
    listener = Listener()
    for _ in range(100):
        assert listener.hear(b"::result " + b"x" * 10_000) == []
    assert len(listener._line) <= LINE_MOST
    assert listener.hear(b"\n::progress 5\n") == [Progress(5.0, "")]
