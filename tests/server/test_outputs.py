"""Attempts and their output: whole, by stream, by range, small, large, and while it is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.jobs.model import OutputSize
from pq_daemon.server.problems import Problem
from pq_daemon.server.resources.attempts import Part, part_of
from pq_daemon.store.outputs import Stream, framed
from pq_daemon.store.protocol import Claim
from tests.support.builders import a_running_job, ending
from tests.support.serving import a_site, some_settings

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site

SAID = framed(Stream.STDOUT, b"one\n") + framed(Stream.STDERR, b"\xff!\n")
SAID += framed(Stream.STDOUT, b"two\n")


async def printed(site: Site) -> Job:
    """A job whose one attempt has ended and printed little: it lies in the attempt's row."""
    job = await a_running_job(site.store)
    told = ending(site.store, job, inline=SAID, output=OutputSize(stdout=8, stderr=3), exit_code=0)
    await site.store.exchange([told], Claim())
    return job


async def read(site: Site, path: str, **headers: str) -> tuple[int, bytes, Any]:
    async with (
        site.signed_in("vera") as session,
        session.get(f"/api/v1{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


async def test_attempts_are_shown_as_the_contract_has_them(site: Site) -> None:
    job = await printed(site)
    async with site.signed_in("vera") as session:
        async with session.get(f"/api/v1/jobs/{job.id}/attempts") as answer:
            body = await answer.json()
        async with session.get("/api/v1/jobs/77/attempts") as answer:
            assert answer.status == 404
    [attempt] = body["items"]
    assert attempt.pop("started_at") <= attempt.pop("finished_at")
    assert attempt == {
        "attempt": 1,
        "outcome": "succeeded",
        "reason": None,
        "exit_code": 0,
        "signal": None,
        "slot": attempt["slot"],
        "output": {"stdout": 8, "stderr": 3, "cut": 0},
        "config": None,
    }


async def test_output_is_exact_and_an_attachment(site: Site) -> None:
    job = await printed(site)
    path = f"/jobs/{job.id}/attempts/1/output"
    status, body, headers = await read(site, path)
    assert (status, body) == (200, b"one\n\xff!\ntwo\n")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["Content-Length"] == "11"
    assert (await read(site, f"{path}?stream=stdout"))[1] == b"one\ntwo\n"
    assert (await read(site, f"{path}?stream=stderr"))[1] == b"\xff!\n"
    assert (await read(site, f"{path}?stream=both"))[0] == 400


async def test_ranges_of_an_output(site: Site) -> None:
    job = await printed(site)
    path = f"/jobs/{job.id}/attempts/1/output"
    status, body, headers = await read(site, path, Range="bytes=4-6")
    assert (status, body) == (206, b"\xff!\n")
    assert headers["Content-Range"] == "bytes 4-6/11"
    status, body, headers = await read(site, path, Range="bytes=11-")
    assert status == 416
    assert headers["Content-Range"] == "bytes */11"
    status, body, headers = await read(site, f"{path}?stream=stdout", Range="bytes=-4")
    assert (status, body) == (206, b"two\n")
    assert (await read(site, path, **{"Range": "bytes=0-1", "If-Range": '"x"'}))[0] == 200


async def test_head_tells_the_size_without_the_bytes(site: Site) -> None:
    job = await printed(site)
    async with (
        site.signed_in("vera") as session,
        session.head(f"/api/v1/jobs/{job.id}/attempts/1/output") as answer,
    ):
        assert answer.headers["Content-Length"] == "11"
        assert await answer.read() == b""


async def test_output_can_be_read_while_it_is_written(site: Site) -> None:
    """What a later read finds begins with what an earlier one found."""
    job = await a_running_job(site.store)
    path = f"/jobs/{job.id}/attempts/1/output"
    assert (await read(site, path))[1] == b""
    file = site.store.outputs.head(job.id, 1)
    file.write_bytes(framed(Stream.STDOUT, b"first\n"))
    assert (await read(site, path))[1] == b"first\n"
    torn = framed(Stream.STDOUT, b"second\n")
    with file.open("ab") as out:
        out.write(framed(Stream.STDERR, b"x" * 200_000) + torn[:-3])
    status, body, _ = await read(site, path, Range="bytes=6-")
    assert (status, body) == (206, b"x" * 200_000)


async def test_a_reader_who_leaves_is_no_error(
    store: SqliteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_site(some_settings(tmp_path), store) as site:
        job = await a_running_job(store)
        file = store.outputs.head(job.id, 1)
        await asyncio.to_thread(file.write_bytes, framed(Stream.STDOUT, b"x" * 20_000_000))
        async with site.signed_in("vera") as session:
            answer = await session.get(f"/api/v1/jobs/{job.id}/attempts/1/output")
            assert await answer.content.read(1000)
            answer.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_unknown_attempts_are_not_found(site: Site) -> None:
    job = await printed(site)
    assert (await read(site, f"/jobs/{job.id}/attempts/2/output"))[0] == 404
    assert (await read(site, f"/jobs/{job.id}/attempts/-1/output"))[0] == 404
    assert (await read(site, "/jobs/99/attempts/1/output"))[0] == 404


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, Part(0, 10, is_range=False)),
        ("bytes=0-0", Part(0, 1, is_range=True)),
        ("bytes=5-", Part(5, 10, is_range=True)),
        ("bytes=5-99", Part(5, 10, is_range=True)),
        ("bytes=-3", Part(7, 10, is_range=True)),
        ("bytes=-99", Part(0, 10, is_range=True)),
        ("bytes=3-2", Part(0, 10, is_range=False)),
        ("bytes=0-1,4-5", Part(0, 10, is_range=False)),
        ("bytes=-", Part(0, 10, is_range=False)),
        ("lines=0-1", Part(0, 10, is_range=False)),
    ],
)
def test_range_headers(header: str | None, part: Part) -> None:
    assert part_of(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_beyond_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(Problem) as caught:
        part_of(header, size)
    assert caught.value.status == 416
    assert caught.value.headers == {"Content-Range": f"bytes */{size}"}
