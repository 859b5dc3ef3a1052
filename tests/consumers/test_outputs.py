"""The form of an output on the disk, and who writes it: exact, bounded, readable at any moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pq_daemon.consumers.recording import Recording
from pq_daemon.jobs.model import JobId, OutputSize
from pq_daemon.store.outputs import (
    INLINE_MOST,
    OutputFiles,
    Stream,
    content,
    framed,
    frames,
    measured,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

JOB = JobId(7)
OUT, ERR = Stream.STDOUT, Stream.STDERR

Chunks = list[tuple[Stream, bytes]]


def recorded(directory: Path, chunks: Iterable[tuple[Stream, bytes]], limit: int) -> Recording:
    recording = Recording(OutputFiles(directory), JOB, 1, limit)
    for chunk in chunks:
        recording.write([chunk])
    return recording


# --- frames --------------------------------------------------------------------------------------


def test_frames_keep_streams_and_order() -> None:
    raw = framed(OUT, b"a") + framed(ERR, b"b") + framed(OUT, b"c")
    assert [(f.stream, f.data) for f in frames(raw)] == [(OUT, b"a"), (ERR, b"b"), (OUT, b"c")]
    assert content(raw) == b"abc"
    assert content(raw, OUT) == b"ac"
    assert shown(raw, ERR) == b"b"
    assert measured(frames(raw)) == OutputSize(2, 1, 0)


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_torn_last_frame_is_left_out(missing: int) -> None:
    raw = framed(OUT, b"whole") + framed(OUT, b"torn")
    assert content(raw[:-missing]) == b"whole"


def test_what_is_no_frame_ends_the_reading() -> None:
    assert content(framed(OUT, b"a") + b"\x09garbage and more") == b"a"
    assert content(b"") == b""


def test_the_cut_is_shown_in_words_and_is_no_content() -> None:
    raw = framed(OUT, b"head") + framed(Stream.CUT, b"1234") + framed(OUT, b"tail")
    assert shown(raw) == b"head\n[... 1234 bytes cut ...]\ntail"
    assert content(raw) == b"headtail"
    assert measured(frames(raw)) == OutputSize(8, 0, 1234)


# --- recording -----------------------------------------------------------------------------------


def expected(chunks: Chunks, limit: int) -> tuple[Chunks, int]:
    """The model: one long row of single bytes, its middle taken out."""
    row = [(stream, data[i : i + 1]) for stream, data in chunks for i in range(len(data))]
    cut = max(0, len(row) - limit)
    head = limit - limit // 2
    kept = row[:head] + row[head + cut :]
    return kept, cut


def bytewise(raw: bytes) -> Chunks:
    return [
        (f.stream, f.data[i : i + 1])
        for f in frames(raw)
        if f.is_output
        for i in range(len(f.data))
    ]


chunk_lists = some.lists(
    some.tuples(some.sampled_from([OUT, ERR]), some.binary(min_size=1, max_size=60)), max_size=30
)


@settings(max_examples=300, deadline=None)
@given(chunk_lists, some.integers(0, 200))
def test_what_is_kept_is_head_and_tail_to_the_byte(chunks: Chunks, limit: int) -> None:
    with TemporaryDirectory() as directory:
        recording = recorded(Path(directory), chunks, limit)
        size, inline = recording.finish()
        raw = OutputFiles(Path(directory)).read(JOB, 1) if inline is None else inline
        kept, cut = expected(chunks, limit)
        assert bytewise(raw or b"") == kept
        assert size.stdout == sum(len(d) for s, d in chunks if s is OUT)
        assert size.stderr == sum(len(d) for s, d in chunks if s is ERR)
        assert size.cut == cut == measured(frames(raw or b"")).cut


@settings(max_examples=200, deadline=None)
@given(chunk_lists, some.integers(0, 120), some.integers(0, 100))
def test_a_crash_at_any_moment_leaves_head_and_latest_bytes(
    chunks: Chunks, limit: int, torn: int
) -> None:
    """The daemon dies: files lie as they are, the last one torn. The next start settles them."""
    with TemporaryDirectory() as directory:
        recording = recorded(Path(directory), chunks, limit)
        recording.close()
        files = OutputFiles(Path(directory))
        last = files.head(JOB, 1) if recording._tail is None else recording._path_of_tail()
        if last.exists():
            os.truncate(last, last.stat().st_size * (100 - torn) // 100)
        while_it_lies = files.read(JOB, 1)
        settled = files.settle(JOB, 1)
        if settled is None:
            assert while_it_lies is None
            return
        size, inline = settled
        assert inline == while_it_lies
        row = [(s, d[i : i + 1]) for s, d in chunks for i in range(len(d))]
        place = 0
        for frame in frames(inline or b""):  # every byte that is there is in its place
            if frame.stream is Stream.CUT:
                place += int(frame.data)
                continue
            kept = [(frame.stream, frame.data[i : i + 1]) for i in range(len(frame.data))]
            assert kept == row[place : place + len(kept)]
            place += len(kept)
        assert size.stdout + size.stderr + size.cut == place <= len(row)
        if torn == 0 and limit > 1:
            assert place == len(row)
            assert len(bytewise(inline or b"")) >= min(limit, len(row))
        assert files.settle(JOB, 1) == settled  # a crash in the middle of the rescue
        assert [p.name for p in Path(directory).iterdir()] == ["7-1.out"]


def test_nothing_lies_on_the_disk_before_the_first_byte(tmp_path: Path) -> None:
    recording = Recording(OutputFiles(tmp_path), JOB, 1, 100)
    assert list(tmp_path.iterdir()) == []
    recording.write([(OUT, b"x")])
    assert [p.name for p in tmp_path.iterdir()] == ["7-1.out"]
    recording.close()


def test_a_small_output_is_returned_and_a_larger_one_is_not(tmp_path: Path) -> None:
    most = INLINE_MOST - 5
    for length, is_inline in ((most, True), (most + 1, False)):
        recording = Recording(OutputFiles(tmp_path), JobId(length), 1, 2**20)
        recording.write([(OUT, bytes(length))])
        size, inline = recording.finish()
        assert size == OutputSize(length, 0, 0)
        assert (inline is not None) is is_inline


def test_a_long_output_never_takes_more_than_head_and_two_tails(tmp_path: Path) -> None:
    recording = Recording(OutputFiles(tmp_path), JOB, 1, 100_000)
    for _ in range(200):
        recording.write([(OUT, bytes(10_000))])
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 50_000 + 2 * 60_000 + 200
    recording.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["7-1.out"]


def test_it_can_be_read_while_the_tails_take_turns(tmp_path: Path) -> None:
    files = OutputFiles(tmp_path)
    recording = Recording(files, JOB, 1, 100)
    whole = bytes(range(256)) * 4
    for at in range(0, len(whole), 16):
        recording.write([(OUT, whole[at : at + 16])])
        raw = files.read(JOB, 1) or b""
        size = measured(frames(raw))
        assert size.stdout + size.cut == at + 16
        kept = content(raw)
        assert kept[:50] == whole[: min(50, at + 16)]
        assert kept[50:] == whole[50 + size.cut : at + 16]
    recording.close()


def test_a_full_disk_cuts_the_output_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    room = 10_000

    def full(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= len(data)
        return real(descriptor, data)

    monkeypatch.setattr("pq_daemon.consumers.recording.os.write", full)
    recording = recorded(tmp_path, [(OUT, bytes(6_000)), (ERR, bytes(6_000))], 2**20)
    size, inline = recording.finish()
    assert recording.trouble is not None
    assert inline is None
    assert size == OutputSize(6_000, 6_000, 6_000)
    assert measured(frames(OutputFiles(tmp_path).read(JOB, 1) or b"")).cut == 6_000


def test_a_small_output_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pq_daemon.consumers.recording.os.write", full)
    size, inline = recorded(tmp_path, [(OUT, b"all of it")], 2**20).finish()
    assert size == OutputSize(9, 0, 0)
    assert content(inline or b"") == b"all of it"


def test_files_are_private_and_can_be_removed(tmp_path: Path) -> None:
    files = OutputFiles(tmp_path)
    recording = recorded(tmp_path, [(OUT, bytes(60))] * 3, 100)
    assert {oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {"0o600"}
    recording.close()
    files.remove(JOB, 1)
    files.remove(JOB, 1)
    assert list(tmp_path.iterdir()) == []
    assert files.read(JOB, 1) is None
    assert files.settle(JOB, 1) is None
