"""The small languages of config.toml."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.config.settings import QueueSettings
from pq_daemon.config.values import (
    BYTES,
    DURATION_MOST,
    SECONDS,
    SIZE_MOST,
    after_action,
    duration_text,
    host_and_port,
    is_loopback,
    seconds,
    size,
    size_text,
)
from tests.config.texts import only, read_queue, read_watch, refused_queue, refused_watch


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500ms", 0.5),
        ("300ms", 0.3),
        ("10s", 10.0),
        ("1.5h", 5400.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("10 s", 10.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "10S", "1h30m", "٣s", "1e3s", " 10s", "10s\n", ".5s", "4000d"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        seconds(text)


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(list(SECONDS)))
def test_a_duration_is_written_as_it_is_read(whole: int, part: int, unit: str) -> None:
    text = f"{whole}.{part}{unit}"
    value = float(f"{whole}.{part}") * SECONDS[unit]
    if value > DURATION_MOST:
        with pytest.raises(ValueError, match="3650d at most"):
            seconds(text)
    else:
        assert seconds(text) == pytest.approx(value)
        assert seconds(duration_text(seconds(text))) == seconds(text)


@given(st.floats(0, DURATION_MOST))
def test_any_number_of_seconds_can_be_written(value: float) -> None:
    assert seconds(duration_text(value)) == value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0.0, "0s"), (0.25, "250ms"), (1.5, "1500ms"), (60.0, "1m"), (90.0, "90s"), (604800.0, "7d")],
)
def test_durations_are_written_in_whole_units(value: float, wanted: str) -> None:
    assert duration_text(value) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0B", 0), ("1B", 1), ("64KiB", 65536), ("10MB", 10**7), ("1.5KiB", 1536), ("2 GiB", 2**31)],
)
def test_sizes(text: str, wanted: int) -> None:
    assert size(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "KiB", "-1B", "1kb", "0.5B", "1PB", "1025TiB", "1B\n"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        size(text)


@given(st.integers(0, SIZE_MOST))
def test_any_size_can_be_written(value: int) -> None:
    assert size(size_text(value)) == value
    assert size(f"{value}B") == value


@given(st.integers(0, 1000), st.sampled_from(list(BYTES)))
def test_sizes_in_units(number: int, unit: str) -> None:
    assert size(f"{number}{unit}") == number * BYTES[unit]


@pytest.mark.parametrize("written", ["10.5", "10", "true", "1979-05-27", '["10s"]'])
def test_a_file_must_write_a_duration_as_one(written: str) -> None:
    problem = only(refused_queue(f"timeout = {written}"))
    assert problem.key == "queue.files.timeout"
    assert problem.allowed.startswith("a duration such as")
    assert problem.hint == (f'write "{written}s" for seconds' if written.startswith("10") else "")


@pytest.mark.parametrize("written", ["5", "5.5", "true", "[]"])
def test_a_file_must_write_a_size_as_one(written: str) -> None:
    problem = only(refused_queue(f"output_limit = {written}"))
    assert problem.allowed.startswith("a size such as")
    assert problem.hint == (f'write "{written}B" for bytes' if written.startswith("5") else "")


def test_our_own_code_may_say_seconds_and_bytes() -> None:
    queue = QueueSettings(timeout=0.5, output_limit=100)
    assert (queue.timeout, queue.output_limit) == (0.5, 100)


@pytest.mark.parametrize("key", ["timeout"])
def test_some_durations_are_longer_than_nothing(key: str) -> None:
    assert only(refused_queue(f'{key} = "0s"')).hint == "it must be longer than nothing"


@pytest.mark.parametrize("key", ["settle", "rescan"])
def test_a_watch_never_settles_or_scans_in_no_time(key: str) -> None:
    assert only(refused_watch(f'{key} = "0ms"')).hint == "it must be longer than nothing"


def test_settle_is_auto_or_a_duration() -> None:
    assert read_watch("").settle == "auto"
    assert read_watch('settle = "100ms"').settle == 0.1
    assert only(refused_watch('settle = "soon"')).allowed.startswith('"auto" or a duration')


def test_kill_grace_may_be_nothing() -> None:
    assert read_queue('kill_grace = "0s"').kill_grace == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("keep", ("keep", "")),
        ("delete", ("delete", "")),
        ("move:done", ("move", "done")),
        ("move:done/by pq/", ("move", "done/by pq")),
        ("move:./done", ("move", "done")),
        ("move:..done", ("move", "..done")),
    ],
)
def test_after_actions(text: str, wanted: tuple[str, str]) -> None:
    assert after_action(text) == wanted


BAD_ACTIONS = [
    "",
    "move",
    "move:",
    "move:.",
    "move:/done",
    "move:../x",
    "move:a/../b",
    "copy:x",
    "Keep",
]


@pytest.mark.parametrize("text", [*BAD_ACTIONS, "move:a\\u0000b"])
@pytest.mark.parametrize("key", ["on_success", "on_failure"])
def test_after_actions_stay_inside_the_watch(key: str, text: str) -> None:
    assert only(refused_watch(f'{key} = "{text}"')).key == f"watch.files.{key}"


def test_after_actions_are_kept_in_one_form() -> None:
    assert read_watch('on_success = "move:./done/"').on_success == "move:done"
    assert read_watch('on_success = "delete"').on_success == "delete"
    assert only(refused_watch('on_failure = "delete"')).hint == "a failed file is never deleted"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:8501", ("127.0.0.1", 8501)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(text: str, wanted: tuple[str, int]) -> None:
    assert host_and_port(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8501",
        "localhost",
        ":8501",
        "::1:8501",
        "[127.0.0.1]:1",
        "[x]:1",
        "h:65536",
        "h:-1",
        "h:x",
        "a b:1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        host_and_port(text)


def test_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.9.1", "::1", "localhost"]))
    assert not any(map(is_loopback, ["192.168.1.2", "::", "example.org"]))
