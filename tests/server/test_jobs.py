"""/jobs: the list and its pages, one job's shape, submissions, and what people ask."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from pq_daemon.config import QueueSettings
from pq_daemon.jobs.model import JobId, Progress
from pq_daemon.jobs.order import Moment, Priority
from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.server import values
from pq_daemon.store.protocol import Claim, JobFilter
from tests.support.builders import (
    PERSON,
    a_file,
    a_job,
    a_running_job,
    ending,
)
from tests.support.serving import a_site, some_settings

if TYPE_CHECKING:
    import aiohttp

    from pq_daemon.store.protocol import Store
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site


async def got(session: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with session.get(URL(f"/api/v1{path}", encoded=True)) as answer:
        assert answer.status == status, await answer.text()
        return json.loads(await answer.text())


async def posted(
    session: aiohttp.ClientSession, path: str, body: dict[str, Any], status: int = 200
) -> Any:
    async with session.post(f"/api/v1{path}", json=body) as answer:
        assert answer.status == status, await answer.text()
        return json.loads(await answer.text())


async def many_jobs(store: Store, count: int, **changes: Any) -> list[str]:
    return [str((await a_job(store, **changes)).id) for _ in range(count)]


# --- the list ------------------------------------------------------------------------------------


async def test_a_job_is_shown_as_the_contract_has_it(site: Site) -> None:
    root = bytes(site.settings.watches[0].path)
    job = await a_running_job(
        site.store, file=a_file(b"in/a.txt", root=root), payload=None, key="k-1"
    )
    site.panel.progresses[job.id] = Progress(12.5, "page 1")
    async with site.signed_in("vera") as session:
        shown = await got(session, f"/jobs/{job.id}")
        [listed] = (await got(session, "/jobs"))["items"]
    assert shown == listed
    assert shown == {
        "id": str(job.id),
        "queue": "files",
        "watch": "files",
        "name": "a.txt",
        "relpath": "in/a.txt",
        "path": f"{root.decode()}/in/a.txt",
        "state": "running",
        "reason": None,
        "priority": "normal",
        "attempt": 1,
        "spent": 0,
        "max_attempts": 5,
        "created_at": values.time(job.created_at),
        "run_at": None,
        "started_at": values.time(job.started_at),
        "finished_at": None,
        "size": 5,
        "sha256": "01" * 32,
        "progress": {"percent": 12.5, "text": "page 1"},
        "error": None,
        "result": None,
        "cancel_requested_at": None,
        "key": "k-1",
        "run": 1,
    }


async def test_a_name_that_is_no_text_comes_with_its_bytes(site: Site) -> None:
    job = await a_job(site.store, file=a_file(b"\xff\n.txt", root=b"/srv"), payload=None)
    async with site.signed_in("vera") as session:
        shown = await got(session, f"/jobs/{job.id}")
    assert base64.b64decode(shown["path_b64"]) == b"/srv/\xff\n.txt"
    assert shown["name"] == "\\udcff\n.txt"


async def test_a_payload_job_has_no_file(site: Site) -> None:
    job = await a_job(site.store, payload='{"a":1}')
    async with site.signed_in("vera") as session:
        shown = await got(session, f"/jobs/{job.id}")
    assert [shown[field] for field in ("name", "path", "relpath", "size", "watch")] == [None] * 5


async def test_pages_are_complete_while_jobs_arrive(site: Site) -> None:
    """Whoever pages through sees every job that was there, once, newest first."""
    before = await many_jobs(site.store, 23)
    seen: list[str] = []
    async with site.signed_in("vera") as session:
        page = await got(session, "/jobs?limit=5")
        seen += [job["id"] for job in page["items"]]
        while page["next"]:
            await many_jobs(site.store, 2)
            page = await got(session, f"/jobs?limit=5&cursor={page['next']}")
            seen += [job["id"] for job in page["items"]]
    assert seen == list(reversed(before))


async def test_a_cursor_is_bound_to_its_filter(site: Site) -> None:
    await many_jobs(site.store, 6)
    async with site.signed_in("vera") as session:
        cursor = (await got(session, "/jobs?limit=2&state=queued"))["next"]
        assert (
            len((await got(session, f"/jobs?limit=2&state=queued&cursor={cursor}"))["items"]) == 2
        )
        problem = await got(session, f"/jobs?limit=2&state=held&cursor={cursor}", 400)
        assert problem["code"] == "invalid"
        await got(session, f"/jobs?limit=2&cursor={cursor}", 400)


async def test_filters_repeat_and_meet(site: Site) -> None:
    running = await a_running_job(site.store)
    await a_job(site.store)
    held = await a_job(site.store, hold=True)
    async with site.signed_in("vera") as session:
        both = await got(session, "/jobs?state=held&state=running")
        assert {job["id"] for job in both["items"]} == {str(held.id), str(running.id)}
        none = await got(session, "/jobs?state=held&watch=files")
        assert none == {"items": [], "next": None}
        after = values.time(running.created_at)
        assert len((await got(session, f"/jobs?after={after}"))["items"]) == 3
        assert len((await got(session, f"/jobs?before={after}"))["items"]) == 0


async def test_search_is_part_of_a_path_or_exactly_an_id_or_key(site: Site) -> None:
    file = a_file("Größe/50%_A.pdf".encode(), root=b"/srv")
    job = await a_job(site.store, file=file, payload=None, key="order 7")
    await many_jobs(site.store, 3)
    async with site.signed_in("vera") as session:
        for text in ("%C3%B6", "50%25_a", "PDF", str(job.id), "order%207"):
            found = (await got(session, f"/jobs?search={text}"))["items"]
            assert str(job.id) in [one["id"] for one in found], text
        assert not (await got(session, "/jobs?search=order"))["items"]
        assert not (await got(session, "/jobs?search=5_%25"))["items"]


# --- submitting ----------------------------------------------------------------------------------


async def test_a_payload_becomes_a_job(site: Site) -> None:
    async with site.signed_in("olga") as session:
        body = {"queue": "files", "payload": {"ü": [1, None]}, "priority": "high", "key": "a"}
        async with session.post("/api/v1/jobs", json=body) as answer:
            assert answer.status == 201
            shown = json.loads(await answer.text())
            assert answer.headers["Location"] == f"/api/v1/jobs/{shown['id']}"
        again = await posted(session, "/jobs", body | {"payload": 2}, 200)
    assert again["id"] == shown["id"]
    job = await site.store.job(JobId(int(shown["id"])))
    assert json.loads(job.payload or "") == {"ü": [1, None]}
    assert job.priority is Priority.HIGH
    [entry] = (await site.store.audit_entries(None, 1, job=job.id)).items
    assert (entry.actor.name, entry.actor.via, entry.action) == ("olga", "api", "job.submit")


async def test_a_submission_can_be_held_or_wait_for_its_time(site: Site) -> None:
    async with site.signed_in("olga") as session:
        held = await posted(session, "/jobs", {"queue": "files", "payload": 1, "hold": True}, 201)
        later = {"queue": "files", "payload": 1, "run_at": "2999-01-01T00:00:00+01:00"}
        scheduled = await posted(session, "/jobs", later, 201)
    assert held["state"] == "held"
    assert (scheduled["state"], scheduled["run_at"]) == ("scheduled", "2998-12-31T23:00:00.000Z")


async def test_a_file_in_a_watch_becomes_a_job(site: Site) -> None:
    watched = site.settings.watches[0].path
    path = bytes(watched / "sub") + b"/na\xffme.txt"
    (watched / "sub").mkdir()
    await asyncio.to_thread(Path(os.fsdecode(path)).write_bytes, b"hello")
    async with site.signed_in("olga") as session:
        coded = base64.b64encode(path).decode()
        shown = await posted(session, "/jobs", {"queue": "files", "path_b64": coded}, 201)
    assert (shown["watch"], shown["size"]) == ("files", 5)
    assert shown["sha256"] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert shown["path_b64"] == coded


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"queue": "files"},
        {"queue": "nope", "payload": 1},
        {"queue": "files", "payload": 1, "path": "/etc/passwd"},
        {"queue": "files", "path": "/etc/passwd"},
        {"queue": "files", "path": "/etc/no-such-file"},
        {"queue": "files", "path": "relative"},
        {"queue": "files", "path": 7},
        {"queue": "files", "path": "WATCHED"},
        {"queue": "files", "path": "WATCHED/gone"},
        {"queue": "files", "path": "WATCHED/link"},
        {"queue": "files", "path": "WATCHED/up/../../outside"},
        {"queue": "files", "path": "WATCHED/pipe"},
        {"queue": "files", "path": "WATCHED/database"},
        {"queue": "files", "path": "WATCHED/nul\0"},
        {"queue": "files", "path": "STATE/queue.db"},
        {"queue": "files", "path_b64": "!"},
        {"queue": "files", "payload": "\ud800"},
        {"queue": "files", "payload": 1, "priority": "soon"},
        {"queue": "files", "payload": 1, "hold": "yes"},
        {"queue": "files", "payload": 1, "run_at": "tomorrow"},
        {"queue": "files", "payload": 1, "run_at": 5},
        {"queue": "files", "payload": 1, "key": ""},
        {"queue": "files", "payload": 1, "key": "a\nb"},
        {"queue": "files", "payload": 1, "command": ["sh"]},
    ],
)
async def test_what_is_no_submission_is_refused(
    site: Site, tmp_path: Path, body: dict[str, Any]
) -> None:
    watched = site.settings.watches[0].path
    (tmp_path / "outside").write_text("x")
    (watched / "link").symlink_to(tmp_path / "outside")
    (watched / "up").mkdir()
    os.mkfifo(watched / "pipe")
    (watched / "database").hardlink_to(tmp_path / "state" / "queue.db")
    if isinstance(body.get("path"), str):
        places = {"WATCHED": str(watched), "STATE": str(tmp_path / "state")}
        for word, place in places.items():
            body = body | {"path": body["path"].replace(word, place)}
    async with site.signed_in("olga") as session:
        problem = await posted(session, "/jobs", body, 400)
    assert problem["code"] == "invalid"
    assert not (await site.store.jobs(JobFilter(), None, 10)).items


async def test_submit_roots_are_taken_too(store: SqliteStore, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "a.txt").write_text("x")
    settings = some_settings(tmp_path, daemon={"submit_roots": (spool,)})
    async with a_site(settings, store) as site, site.signed_in("olga") as session:
        body = {"queue": "files", "path": str(spool / "a.txt")}
        shown = await posted(session, "/jobs", body, 201)
    assert (shown["watch"], shown["relpath"]) == (None, "a.txt")


async def test_nothing_is_accepted_while_stopping(site: Site) -> None:
    site.panel.phase = "stopping"
    async with site.signed_in("olga") as session:
        problem = await posted(session, "/jobs", {"queue": "files", "payload": 1}, 503)
    assert problem["code"] == "draining"


# --- asking --------------------------------------------------------------------------------------


async def test_each_action_moves_the_job_and_is_audited(site: Site) -> None:
    job = await a_job(site.store)
    async with site.signed_in("olga") as session:
        path = f"/jobs/{job.id}"
        assert (await posted(session, f"{path}/hold", {"reason": "wait"}))["state"] == "held"
        assert (await posted(session, f"{path}/release", {}))["state"] == "queued"
        async with session.post(f"/api/v1{path}/cancel") as answer:  # no body at all
            assert (await answer.json())["state"] == "cancelled"
        problem = await posted(session, f"{path}/hold", {}, 409)
        assert problem["code"] == "conflict"
        assert "cancelled" in problem["detail"]
        again = await posted(session, f"{path}/retry", {})
        assert (again["state"], again["run"], again["spent"]) == ("queued", 2, 0)
    entries = (await site.store.audit_entries(None, 10, job=job.id)).items
    assert [entry.action for entry in entries] == [
        "job.retry",
        "job.cancel",
        "job.release",
        "job.hold",
        "job.submit",
    ]
    assert entries[3].reason == "wait"


async def test_cancelling_a_running_job_asks_for_it(site: Site) -> None:
    job = await a_running_job(site.store)
    async with site.signed_in("olga") as session:
        shown = await posted(session, f"/jobs/{job.id}/cancel", {})
    assert shown["state"] == "running"
    assert shown["cancel_requested_at"]


async def test_run_now_and_retry_of_a_scheduled_job(site: Site) -> None:
    job = await a_job(site.store, run_at=Moment(site.store.now() + 10**9))
    async with site.signed_in("olga") as session:
        await posted(session, f"/jobs/{job.id}/retry", {}, 409)
        assert (await posted(session, f"/jobs/{job.id}/run-now", {}))["state"] == "queued"


async def test_a_job_whose_file_is_gone_cannot_be_retried(site: Site) -> None:
    root = site.settings.watches[0].path
    job = await a_job(site.store, file=a_file(b"gone.txt", root=bytes(root)), payload=None)
    await site.store.act(job.id, Event.CANCEL, PERSON)
    async with site.signed_in("olga") as session:
        problem = await posted(session, f"/jobs/{job.id}/retry", {}, 409)
        assert problem["code"] == "input_gone"
        (root / "gone.txt").write_text("back")
        assert (await posted(session, f"/jobs/{job.id}/retry", {}))["state"] == "queued"


async def test_a_missing_root_does_not_say_that_the_file_is_gone(
    site: Site, tmp_path: Path
) -> None:
    file = a_file(b"x.txt", root=bytes(tmp_path / "unmounted"))
    job = await a_job(site.store, file=file, payload=None)
    await site.store.act(job.id, Event.CANCEL, PERSON)
    async with site.signed_in("olga") as session:
        assert (await posted(session, f"/jobs/{job.id}/retry", {}))["state"] == "queued"


async def test_a_retry_takes_todays_priority_and_budget(store: SqliteStore, tmp_path: Path) -> None:
    queue = QueueSettings(name="files", command=("true",), max_attempts=9, priority=Priority.LOW)
    async with a_site(some_settings(tmp_path, queues={"files": queue}), store) as site:
        job = await a_running_job(store)
        failed = ending(store, job, Outcome.FAILED, final_reason=Reason.DISCARDED)
        await store.exchange([failed], Claim())
        async with site.signed_in("olga") as session:
            shown = await posted(session, f"/jobs/{job.id}/retry", {})
    assert (shown["priority"], shown["max_attempts"]) == ("low", 9)


async def test_a_job_of_a_removed_queue_can_be_cancelled_and_not_retried(
    store: SqliteStore, tmp_path: Path
) -> None:
    job = await a_job(store)
    settings = some_settings(tmp_path)
    settings = settings.model_copy(update={"queues": {}, "watches": ()})
    async with a_site(settings, store) as site, site.signed_in("mara") as session:
        [queue] = (await got(session, "/queues"))["items"]
        assert queue["removed"]
        assert (await posted(session, f"/jobs/{job.id}/cancel", {}))["state"] == "cancelled"
        problem = await posted(session, f"/jobs/{job.id}/retry", {}, 409)
    assert "removed" in problem["detail"]


async def test_results_and_errors_of_a_final_job(site: Site) -> None:
    job = await a_running_job(site.store)
    told = ending(site.store, job, result='{"pages": 3}', progress=Progress(100.0, "done"))
    await site.store.exchange([told], Claim())
    async with site.signed_in("vera") as session:
        shown = await got(session, f"/jobs/{job.id}")
    assert shown["state"] == State.SUCCEEDED
    assert shown["result"] == {"pages": 3}
    assert shown["finished_at"]


async def test_two_people_ask_at_once_and_one_is_told(site: Site) -> None:
    job = await a_job(site.store)
    async with site.signed_in("olga") as olga, site.signed_in("mara") as mara:
        await posted(olga, f"/jobs/{job.id}/cancel", {})
        problem = await posted(mara, f"/jobs/{job.id}/cancel", {}, 409)
    assert problem["code"] == "conflict"
