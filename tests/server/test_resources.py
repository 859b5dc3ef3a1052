"""Queues, watches, consumers, figures, events, audit, configuration, health: one story each."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pq_daemon.config import Settings, StoreSettings, UserSettings
from pq_daemon.config.problems import Problem
from pq_daemon.errors import StoreError
from pq_daemon.jobs.model import Progress, QueueName, WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Outcome, Reason
from pq_daemon.jobs.status import SlotState, SlotStatus, WatchState, WatchStatus
from pq_daemon.server.controls import Reloaded
from pq_daemon.server.resources.health import Readiness
from pq_daemon.server.statistics import Statistics
from pq_daemon.store.feed import RING, Fact
from pq_daemon.store.protocol import Claim, FileState, Sighting
from tests.support.builders import (
    PERSON,
    a_job,
    a_running_job,
    an_identity,
    ending,
    found,
)
from tests.support.serving import CHEAP, some_panel
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp
    import pytest

    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site


async def got(session: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with session.get(f"/api/v1{path}") as answer:
        assert answer.status == status, await answer.text()
        return json.loads(await answer.text())


async def posted(
    session: aiohttp.ClientSession, path: str, body: dict[str, Any] | None = None, status: int = 200
) -> Any:
    async with session.post(f"/api/v1{path}", json=body or {}) as answer:
        assert answer.status == status, await answer.text()
        return json.loads(await answer.text())


# --- queues --------------------------------------------------------------------------------------


async def test_a_queue_is_shown_as_the_contract_has_it(site: Site) -> None:
    await a_job(site.store)
    async with site.signed_in("vera") as session:
        [queue] = (await got(session, "/queues"))["items"]
        assert await got(session, "/queues/files") == queue
        assert (await got(session, "/queues/nope", 404))["code"] == "not_found"
    assert queue.pop("oldest_queued_at")
    assert queue == {
        "name": "files",
        "handler": "command",
        "concurrency": 0,
        "paused": None,
        "removed": False,
        "counts": {
            "held": 0,
            "scheduled": 0,
            "queued": 1,
            "running": 0,
            "retrying": 0,
            "succeeded": 0,
            "failed": 0,
            "cancelled": 0,
        },
        "backlog": None,
    }


async def test_pausing_tells_who_and_why(site: Site) -> None:
    async with site.signed_in("mara") as session:
        paused = (await posted(session, "/queues/files/pause", {"reason": "toner"}))["paused"]
        assert (paused["reason"], paused["by"]) == ("toner", "mara")
        assert paused["at"]
        assert (await posted(session, "/queues/files/resume"))["paused"] is None
        await posted(session, "/queues/files/pause", {"reason": "x" * 501}, 400)
    actions = [entry.action for entry in (await site.store.audit_entries(None, 2)).items]
    assert actions == ["queue.resume", "queue.pause"]


async def test_a_limit_can_be_set_and_given_back(site: Site) -> None:
    async def limited(session: aiohttp.ClientSession, value: object) -> tuple[int, Any]:
        async with session.patch("/api/v1/queues/files", json={"concurrency": value}) as answer:
            return answer.status, json.loads(await answer.text()).get("concurrency")

    async with site.signed_in("mara") as session:
        assert await limited(session, 3) == (200, 3)
        assert await limited(session, None) == (200, 0)
        for nonsense in ("3", -1, 1025, 1.5, True):
            assert (await limited(session, nonsense))[0] == 400


# --- watches and files ---------------------------------------------------------------------------


async def test_a_watch_balances_and_tells_its_state(site: Site) -> None:
    root = bytes(site.settings.watches[0].path)
    waiting = Sighting(WatchName("files"), root, b"a", FileState.WAITING, "empty", an_identity())
    await site.store.sight([waiting])
    await site.store.accept([found(b"b\xff", root=root)])
    await site.store.missed(WatchName("files"), 2)
    site.panel.watch_list = [
        WatchStatus(WatchName("files"), WatchState.MISSING, "it is not there", Moment(0))
    ]
    async with site.signed_in("vera") as session:
        [watch] = (await got(session, "/watches"))["items"]
        files = await got(session, "/watches/files/files")
        only = await got(session, "/watches/files/files?state=waiting&limit=1")
        await got(session, "/watches/files/files?state=done", 400)
        await got(session, "/watches/nope/files", 404)
    assert watch == {
        "name": "files",
        "path": root.decode(),
        "queue": "files",
        "status": "missing",
        "reason": "it is not there",
        "counts": {
            "seen": 2,
            "waiting": 1,
            "ignored": 0,
            "accepted": 1,
            "vanished": 0,
            "missed_by_events": 2,
        },
        "last_scan": "1970-01-01T00:00:00.000Z",
    }
    accepted, first = sorted(files["items"], key=lambda file: str(file["state"]))
    assert first | {"changed_at": ""} == {
        "relpath": "a",
        "state": "waiting",
        "reason": "empty",
        "size": 5,
        "changed_at": "",
        "job": None,
    }
    assert (accepted["relpath"], accepted["relpath_b64"], accepted["job"]) == (
        "b\\udcff",
        "Yv8=",
        "1",
    )
    assert [file["relpath"] for file in only["items"]] == ["a"]


async def test_a_scan_can_be_asked_for(site: Site) -> None:
    async with site.signed_in("olga") as session:
        await posted(session, "/watches/files/rescan", {}, 202)
        await posted(session, "/watches/nope/rescan", {}, 404)
    assert site.panel.rescanned == ["files"]
    [entry] = (await site.store.audit_entries(None, 1)).items
    assert (entry.action, entry.target, entry.actor.name) == ("watch.rescan", "files", "olga")


# --- now -----------------------------------------------------------------------------------------


async def test_consumers_are_shown_as_the_contract_has_them(site: Site) -> None:
    job = await a_running_job(site.store)
    site.panel.slot_list[0] = SlotStatus(
        1,
        SlotState.RUNNING,
        job.id,
        "a.txt",
        QueueName("files"),
        1,
        Moment(0),
        Progress(50.0, "half"),
    )
    async with site.signed_in("vera") as session:
        first, second, *_ = (await got(session, "/consumers"))["items"]
    assert first == {
        "slot": 1,
        "state": "running",
        "job": {"id": str(job.id), "name": "a.txt", "queue": "files"},
        "attempt": 1,
        "since": "1970-01-01T00:00:00.000Z",
        "progress": {"percent": 50.0, "text": "half"},
    }
    assert (second["state"], second["job"]) == ("idle", None)


async def test_stats_sum_up_and_say_how_it_goes(site: Site) -> None:
    job = await a_running_job(site.store)
    failed = ending(site.store, job, Outcome.FAILED, final_reason=Reason.DISCARDED)
    await site.store.exchange([failed], Claim())
    await a_job(site.store)
    async with site.signed_in("vera") as session:
        stats = await got(session, "/stats")
        assert stats["counts"]["failed"] == 1
        assert stats["totals"]["accepted"] == 2
        assert stats["by_queue"]["files"]["failed"] == 1
        assert stats["slots"] == {"total": 4, "busy": 0}
        assert stats["health"]["level"] == "ok"
        assert stats["health"]["sentence"].endswith("1 waiting")
        await site.store.pause(QueueName("files"), PERSON, "toner")
        site.panel.watch_list = [WatchStatus(WatchName("files"), WatchState.MISSING, "unmounted")]
        health = (await got(session, "/stats"))["health"]
    assert health["level"] == "critical"
    assert health["sentence"].startswith("Not well")
    assert [check["level"] for check in health["checks"]] == ["critical", "warning"]
    assert "unmounted" in health["checks"][0]["detail"]


# --- events --------------------------------------------------------------------------------------


def tell(site: Site, count: int) -> None:
    site.store.feed.tell([Fact("test.told", data={"n": n}) for n in range(count)], site.store.now())


async def test_events_after_a_place(site: Site) -> None:
    tell(site, 3)
    async with site.signed_in("vera") as session:
        latest = await got(session, "/events")
        place = f"{latest['epoch']}:{latest['seq']}"
        assert latest["gap"] is False
        assert [e["data"]["n"] for e in latest["items"][-3:]] == [0, 1, 2]
        assert set(latest["items"][-1]) == {"epoch", "seq", "at", "type", "job", "queue", "data"}
        assert (await got(session, f"/events?after={place}"))["items"] == []
        job = await a_job(site.store)
        [event] = (await got(session, f"/events?after={place}"))["items"]
    assert (event["type"], event["job"], event["queue"]) == ("job.accepted", str(job.id), "files")


async def test_a_long_poll_waits_for_the_next_event(site: Site) -> None:
    async with site.signed_in("vera") as session:
        latest = await got(session, "/events")
        place = f"{latest['epoch']}:{latest['seq']}"
        async with asyncio.TaskGroup() as tasks:
            listeners = len(site.store.feed._listeners)
            poll = tasks.create_task(got(session, f"/events?after={place}&wait=30"))
            await wait_until(lambda: len(site.store.feed._listeners) > listeners)
            tell(site, 1)
        assert [event["type"] for event in poll.result()["items"]] == ["test.told"]
        assert (await got(session, f"/events?after={place}&wait=0"))["gap"] is False


async def test_a_place_that_is_gone_is_a_gap(site: Site) -> None:
    async with site.signed_in("vera") as session:
        latest = await got(session, "/events")
        tell(site, RING + 5)
        gone = await got(session, f"/events?after={latest['epoch']}:{latest['seq']}")
        assert gone["gap"] is True
        assert gone["items"][0]["seq"] == site.store.feed.seq - RING + 1
        other = await got(session, "/events?after=dead:7")
        assert other["gap"] is True
        following = await got(session, f"/events?after={gone['epoch']}:{gone['seq']}")
        assert following["gap"] is False
        assert following["items"][0]["seq"] == gone["seq"] + 1
        for nonsense in ("x", "dead:", "dead:-1", "a b:1"):
            await got(session, f"/events?after={nonsense}", 400)
        await got(session, "/events?wait=61", 400)


# --- audit, configuration ------------------------------------------------------------------------


async def test_the_audit_trail_has_pages(site: Site) -> None:
    job = await a_job(site.store)
    async with site.signed_in("mara") as session:
        page = await got(session, "/audit?limit=1")
        assert page["items"][0]["action"] == "login"
        rest = await got(session, f"/audit?limit=1&cursor={page['next']}")
        assert rest["items"][0]["action"] == "job.submit"
        assert rest["next"] is None
        of_job = await got(session, f"/audit?job={job.id}")
        assert [entry["target"] for entry in of_job["items"]] == [f"job {job.id}"]
        await got(session, f"/audit?job={job.id}&cursor={page['next']}", 400)


async def test_the_configuration_is_shown_without_its_secrets(site: Site) -> None:
    secret = "hunter2-hunter2"
    site.panel.settings = site.settings.model_copy(
        update={
            "store": StoreSettings(url=f"postgresql://pq:{secret}@db/pq"),
            "users": (UserSettings(name="x", password_hash=CHEAP.hash("y")),),
        }
    )
    async with site.signed_in("vera") as session:
        shown = await got(session, "/config")
    text = json.dumps(shown)
    assert secret not in text
    assert "$argon2id$" not in text
    assert shown["queue"]["files"]["command"] == ["true"]
    assert shown["last_reload"] is None


async def test_a_reload_says_what_changed_or_what_is_wrong(site: Site) -> None:
    async with site.signed_in("mara") as session:
        site.panel.next_reload = Reloaded(Moment(0), ("queue.files.timeout",), ("server.listen",))
        done = await posted(session, "/reload")
        assert done == {
            "at": "1970-01-01T00:00:00.000Z",
            "changed": ["queue.files.timeout"],
            "restart": ["server.listen"],
        }
        wrong = Problem(
            "watch.files.setle", 14, "unknown key", "settle, …", 'did you mean "settle"?'
        )
        site.panel.next_reload = Reloaded(Moment(0), problems=(wrong,))
        refused = await posted(session, "/reload", {}, 422)
        assert refused["code"] == "configuration"
        [error] = refused["errors"]
        assert error["key"] == "watch.files.setle"
        assert (error["line"], error["found"], error["allowed"]) == (14, "unknown key", "settle, …")
        assert (await got(session, "/config"))["last_reload"]["errors"] == refused["errors"]
    entries = (await site.store.audit_entries(None, 2)).items
    assert [entry.action for entry in entries] == ["config.reload"] * 2
    assert [entry.detail["problems"] for entry in entries] == [1, 0]
    assert site.panel.reloaded_by[0].name == "mara"


# --- health --------------------------------------------------------------------------------------


async def test_health_and_readiness(site: Site) -> None:
    async with site.visitor() as session:
        for phase, ready in (("starting", 503), ("running", 200), ("stopping", 503)):
            site.panel.phase = phase  # type: ignore[assignment] # the three words of Phase
            async with session.get("/readyz") as answer:
                assert answer.status == ready
            async with session.get("/healthz") as answer:
                assert answer.status == 200
        site.panel.phase = "running"
        site.panel.watch_list = [WatchStatus(WatchName("files"), WatchState.MISSING)]
        async with session.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json(content_type=None))["code"] == "not_ready"


async def test_a_store_that_takes_no_writes_is_not_ready(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing() -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(site.store, "healthy", failing)
    async with site.visitor() as session, session.get("/readyz") as answer:
        assert answer.status == 503


async def test_many_probes_ask_the_store_once(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    asked: list[float] = []
    healthy = store.healthy

    async def counted() -> None:
        asked.append(clock[0])
        await healthy()

    monkeypatch.setattr(store, "healthy", counted)
    readiness = Readiness(store, clock=lambda: clock[0])
    for clock[0] in (100.0, 100.5, 100.9, 101.0):
        assert await readiness.trouble() == ""
    assert asked == [100.0, 101.0]


async def test_rates_are_told_once_there_is_something_to_compare(store: SqliteStore) -> None:
    now = 0.0
    settings = Settings(queues={})
    statistics = Statistics(store, some_panel(settings), clock=lambda: now)
    await statistics.sample()
    assert (await statistics.summary())["rates"] is None
    for _ in range(20):
        await a_job(store)
    now = 4.0
    rates = (await statistics.summary())["rates"]
    assert (rates["accepted"], rates["finished"]) == (5.0, 0.0)
