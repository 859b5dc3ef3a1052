"""The live channel: the protocol, resuming, rights, and clients that do not keep up."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from pq_daemon.jobs.model import JobId, Progress, QueueName, WatchName
from pq_daemon.jobs.states import Event, Outcome, Reason
from pq_daemon.jobs.status import SlotState, SlotStatus, WatchState, WatchStatus
from pq_daemon.server import keys
from pq_daemon.server.live import FLUSH_S, entered
from pq_daemon.store.feed import RING, Fact, Told
from pq_daemon.store.protocol import Claim
from tests.support.builders import PERSON, a_file, a_job, a_running_job, ending
from tests.support.serving import a_site, some_settings
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pq_daemon.server.live import Hub
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site

WS = "/api/v1/ws"


class Wire:
    """A client's end: says what it wants, hears what comes."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def subscribe(self, *topics: str, **place: Any) -> None:
        await self.ws.send_json({"type": "subscribe", "topics": topics, **place})

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            message = await self.ws.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, message
        heard: dict[str, Any] = json.loads(message.data)
        return heard

    async def hear_until(self, **wanted: Any) -> dict[str, Any]:
        while True:
            heard = await self.hear()
            if all(heard.get(name) == value for name, value in wanted.items()):
                return heard

    async def closed_with(self) -> int | None:
        async with asyncio.timeout(10):
            while (await self.ws.receive()).type is aiohttp.WSMsgType.TEXT:
                continue
        return self.ws.close_code


@asynccontextmanager
async def connected(session: aiohttp.ClientSession) -> AsyncIterator[Wire]:
    async with session.ws_connect(WS) as ws:
        wire = Wire(ws)
        assert (await wire.hear())["type"] == "hello"
        yield wire


@asynccontextmanager
async def a_viewer(site: Site) -> AsyncIterator[Wire]:
    async with site.signed_in("vera") as session, connected(session) as wire:
        yield wire


def hub_of(site: Site) -> Hub:
    return site.server.app[keys.HUB]


def tell(site: Site, count: int, size: int = 0) -> None:
    facts = [Fact("test.told", data={"n": n, "x": "x" * size}) for n in range(count)]
    site.store.feed.tell(facts, site.store.now())


async def told_numbers(wire: Wire, upto: int) -> list[int]:
    """The seqs of delta events up to one, in the order they came."""
    seqs: list[int] = []
    while not seqs or seqs[-1] < upto:
        heard = await wire.hear()
        assert heard["type"] != "gap", heard
        if heard["type"] == "delta" and heard["topic"] == "events":
            assert heard["seq"] == heard["data"][-1]["seq"]
            seqs += [event["seq"] for event in heard["data"]]
    return seqs


# --- the protocol --------------------------------------------------------------------------------


async def test_hello_then_snapshot_then_deltas(site: Site) -> None:
    async with site.signed_in("vera") as session, session.ws_connect(WS) as ws:
        wire = Wire(ws)
        hello = await wire.hear()
        assert hello == {
            "type": "hello",
            "epoch": site.store.feed.epoch,
            "seq": site.store.feed.seq,
        }
        await wire.subscribe("queues")
        snapshot = await wire.hear()
        assert (snapshot["type"], snapshot["topic"]) == ("snapshot", "queues")
        assert snapshot["data"][0]["counts"]["queued"] == 0
        await a_job(site.store)
        delta = await wire.hear()
        assert (delta["type"], delta["topic"]) == ("delta", "queues")
        assert delta["data"][0]["counts"]["queued"] == 1
        assert delta["seq"] == site.store.feed.seq


async def test_every_topic_has_a_snapshot(site: Site) -> None:
    job = await a_job(site.store)
    topics = ["stats", "consumers", "queues", "watches", "jobs", "events", f"jobs:{job.id}"]
    async with a_viewer(site) as wire:
        await wire.subscribe(*topics)
        seen: dict[str, Any] = {}
        while len(seen) < len(topics):
            heard = await wire.hear()
            if heard["type"] == "snapshot":
                seen[heard["topic"]] = heard["data"]
    assert set(seen) == set(topics)
    assert seen[f"jobs:{job.id}"]["id"] == str(job.id)
    assert seen["stats"]["counts"]["queued"] == 1
    assert len(seen["consumers"]) == 4
    assert seen["watches"][0]["name"] == "files"


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("nope", "unknown_topic"),
        ("jobs:", "unknown_topic"),
        ("jobs:x", "unknown_topic"),
        ("jobs:007", "unknown_topic"),
        ("jobs:99999999999999999999", "unknown_topic"),
        (7, "unknown_topic"),
        ("jobs:4711", "not_found"),
    ],
)
async def test_topics_that_are_none_are_refused_one_by_one(
    site: Site, topic: Any, code: str
) -> None:
    async with a_viewer(site) as wire:
        await wire.subscribe(topic, "queues")
        heard = [await wire.hear(), await wire.hear()]
    [error] = [one for one in heard if one["type"] == "error"]
    assert error == {
        "type": "error",
        "topic": topic if isinstance(topic, str) else None,
        "code": code,
    }
    assert "queues" in [one.get("topic") for one in heard]


async def test_what_is_no_message_is_refused_and_too_many_end_it(site: Site) -> None:
    async with a_viewer(site) as wire:
        await wire.ws.send_str("{")
        assert (await wire.hear())["code"] == "not_json"
        await wire.ws.send_str('{"type":"cancel","job":"1"}')
        assert (await wire.hear())["code"] == "unknown_message"
        await wire.ws.send_bytes(b"\x00")
        assert (await wire.hear())["code"] == "not_text"
        for _ in range(100):
            await wire.ws.send_str("{}")
        assert await wire.closed_with() == 1008


async def test_a_message_that_is_too_long_ends_it(site: Site) -> None:
    async with a_viewer(site) as wire:
        await wire.ws.send_str(json.dumps({"type": "subscribe", "topics": ["x" * 20_000]}))
        assert await wire.closed_with() == 1009


async def test_a_plain_request_is_told_what_the_address_is_for(site: Site) -> None:
    async with site.signed_in("vera") as session, session.get(WS) as answer:
        assert answer.status == 400
        assert (await answer.json(content_type=None))["code"] == "upgrade_needed"


# --- events --------------------------------------------------------------------------------------


async def test_events_come_batched_complete_and_in_order(site: Site) -> None:
    async with a_viewer(site) as wire:
        await wire.subscribe("events")
        snapshot = await wire.hear()
        first = snapshot["seq"]
        for _ in range(40):
            tell(site, 50)
            await asyncio.sleep(0)
        seqs = await told_numbers(wire, first + 2000)
    assert seqs == list(range(first + 1, first + 2001))


async def test_resuming_gives_exactly_what_was_missed(site: Site) -> None:
    async with site.signed_in("vera") as session:
        async with connected(session) as wire:
            await wire.subscribe("events")
            last = (await wire.hear())["seq"]
        tell(site, 1000)
        async with connected(session) as wire:
            await wire.subscribe("events", epoch=site.store.feed.epoch, seq=last)
            tell(site, 3)
            seqs = await told_numbers(wire, last + 1003)
    assert seqs == list(range(last + 1, last + 1004))


@pytest.mark.parametrize("how", ["ring", "epoch", "nonsense"])
async def test_what_cannot_be_resumed_is_a_gap_and_a_snapshot(site: Site, how: str) -> None:
    tell(site, RING + 10)
    places: dict[str, dict[str, Any]] = {
        "ring": {"epoch": site.store.feed.epoch, "seq": 3},
        "epoch": {"epoch": "another", "seq": 3},
        "nonsense": {"epoch": site.store.feed.epoch, "seq": "x"},
    }
    async with a_viewer(site) as wire:
        await wire.subscribe("events", **places[how])
        gap, snapshot = await wire.hear(), await wire.hear()
        assert gap["type"] == "gap"
        assert gap["seq"] == site.store.feed.seq
        assert (snapshot["type"], len(snapshot["data"])) == ("snapshot", 200)
        assert snapshot["data"][-1]["seq"] == snapshot["seq"] == gap["seq"]
        tell(site, 2)
        assert await told_numbers(wire, gap["seq"] + 2) == [gap["seq"] + 1, gap["seq"] + 2]


# --- states --------------------------------------------------------------------------------------


async def test_a_job_is_told_as_it_moves(site: Site) -> None:
    job = await a_job(site.store)
    async with a_viewer(site) as wire:
        await wire.subscribe(f"jobs:{job.id}")
        assert (await wire.hear())["data"]["state"] == "queued"
        await site.store.act(job.id, Event.HOLD, PERSON)
        heard = await wire.hear()
    assert (heard["type"], heard["data"]["state"]) == ("delta", "held")


async def test_progress_of_a_running_job_is_told_though_it_is_no_event(site: Site) -> None:
    job = await a_running_job(site.store)
    async with a_viewer(site) as wire:
        await wire.subscribe(f"jobs:{job.id}")
        assert (await wire.hear())["data"]["progress"] is None
        site.panel.progresses[job.id] = Progress(40.0, "almost")
        heard = await wire.hear()
    assert heard["data"]["progress"] == {"percent": 40.0, "text": "almost"}


async def test_slots_are_told_as_they_change(site: Site) -> None:
    async with a_viewer(site) as wire:
        await wire.subscribe("consumers")
        assert (await wire.hear())["data"][0]["state"] == "idle"
        site.panel.slot_list[0] = SlotStatus(1, SlotState.STUCK, JobId(1), "a.txt")
        assert (await wire.hear())["data"][0]["state"] == "stuck"


async def test_many_changes_make_few_deltas_and_the_last_one_is_right(site: Site) -> None:
    async with a_viewer(site) as wire:
        await wire.subscribe("queues")
        await wire.hear()
        began, heard = time.monotonic(), 0
        for _ in range(60):
            await a_job(site.store)
        while True:
            delta = await wire.hear()
            heard += 1
            if delta["data"][0]["counts"]["queued"] == 60:
                break
    assert heard <= (time.monotonic() - began) / FLUSH_S + 2


async def test_an_open_list_is_told_how_much_came(site: Site) -> None:
    async with a_viewer(site) as wire:
        await wire.subscribe("jobs")
        assert (await wire.hear())["data"]["entered"] == {}
        job = await a_running_job(site.store)
        told = ending(site.store, job, Outcome.FAILED, final_reason=Reason.DISCARDED)
        await site.store.exchange([told], Claim())
        while True:
            data = (await wire.hear())["data"]
            if "failed" in data["entered"]["files"]:
                break
    assert data["entered"]["files"] == {"accepted": 1, "queued": 1, "running": 1, "failed": 1}
    assert data["counts"]["failed"] == 1


@pytest.mark.parametrize(
    ("type_", "data", "state"),
    [
        ("job.accepted", {"state": "held"}, "held"),
        ("job.started", {}, "running"),
        ("job.interrupted", {}, "queued"),
        ("job.lost", {}, "queued"),
        ("job.released", {"state": "retrying"}, "retrying"),
        ("job.cancel_requested", {"state": "running"}, None),
        ("queue.paused", {}, None),
    ],
)
def test_the_state_a_job_came_to(type_: str, data: dict[str, str], state: str | None) -> None:
    assert entered(Told(1, 0, Fact(type_, data=data))) == state  # type: ignore[arg-type]


async def test_when_nobody_watches_nothing_is_done(site: Site) -> None:
    """The feed brings up to 30,000 events a second; without clients they are not even looked at."""
    hub = hub_of(site)
    hub.heard(None)  # type: ignore[arg-type] # looking at it would raise
    async with a_viewer(site) as wire:
        await wire.subscribe("queues")
        await wire.hear()
        assert len(hub) == 1
    await wait_until(lambda: len(hub) == 0, what="the client to be forgotten")
    assert not hub._watchers
    assert not hub._frames
    assert not hub._general
    hub.heard(None)  # type: ignore[arg-type]


# --- rights --------------------------------------------------------------------------------------


async def test_signing_out_ends_its_connections(site: Site) -> None:
    async with (
        site.signed_in("vera") as vera,
        site.signed_in("olga") as olga,
        connected(vera) as ending_one,
        connected(olga) as staying,
    ):
        async with vera.post("/logout"):
            pass
        assert await ending_one.closed_with() == 4401
        await staying.subscribe("queues")
        assert (await staying.hear())["type"] == "snapshot"


async def test_a_removed_account_loses_its_connections(site: Site) -> None:
    async with a_viewer(site) as wire:
        site.server.configure(site.settings.model_copy(update={"users": ()}))
        assert await wire.closed_with() == 4401


async def refused(session: aiohttp.ClientSession, **headers: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await session.ws_connect(WS, headers=headers)
    return caught.value.status


async def test_who_may_not_connect(site: Site) -> None:
    async with site.visitor() as nobody:
        assert await refused(nobody) == 401
    async with site.signed_in("vera") as session:
        session.headers.clear()
        assert await refused(session) == 403
        assert await refused(session, Origin="null") == 403
        assert await refused(session, Origin="https://evil.example") == 403
        assert await refused(session, Origin=site.url + ".evil.example") == 403
        assert await refused(session, Origin="http://127.0.0.1:1") == 403
        assert await refused(session, **site.ours, Host="evil.example") == 403
        async with session.ws_connect(WS, headers={"Origin": site.url}):
            pass


async def test_the_control_socket_needs_no_origin(site: Site) -> None:
    async with site.on_socket() as session, connected(session) as wire:
        await wire.subscribe("jobs")
        assert (await wire.hear())["type"] == "snapshot"


@pytest.mark.parametrize("public", ["counts", "full"])
async def test_what_the_public_sees(store: SqliteStore, tmp_path: Path, public: str) -> None:
    settings = some_settings(tmp_path, server={"ops_public": public})
    async with a_site(settings, store) as site, site.visitor() as nobody:
        await a_job(store, file=a_file(b"secret.txt", root=b"/srv"), payload=None)
        await store.pause(QueueName("files"), PERSON, "secret reason")
        site.panel.slot_list[0] = SlotStatus(
            1, SlotState.RUNNING, JobId(1), "secret.txt", progress=Progress(1.0, "secret text")
        )
        missing = WatchStatus(WatchName("files"), WatchState.MISSING, "secret path")
        site.panel.watch_list = [missing]
        async with connected(nobody) as wire:
            await wire.subscribe(
                "stats", "consumers", "queues", "watches", "events", "jobs", "jobs:1"
            )
            heard = [await wire.hear() for _ in range(7)]
    errors = {one["topic"] for one in heard if one["type"] == "error"}
    assert {one["code"] for one in heard if one["type"] == "error"} == {"forbidden"}
    if public == "full":
        assert errors == {"jobs", "jobs:1"}
    else:
        assert errors == {"jobs", "jobs:1", "watches", "events"}
        assert "secret" not in json.dumps(heard)
        assert {one["topic"] for one in heard} >= {"stats", "consumers", "queues"}


async def test_the_public_is_out_when_a_reload_says_so(store: SqliteStore, tmp_path: Path) -> None:
    settings = some_settings(tmp_path, server={"ops_public": "full"})
    async with a_site(settings, store) as site, site.visitor() as nobody:
        async with connected(nobody) as wire:
            site.server.configure(some_settings(tmp_path, server={"ops_public": "counts"}))
            assert await wire.closed_with() == 4401
        async with nobody.get("/ops") as answer:
            assert answer.status == 200
        site.server.configure(some_settings(tmp_path))
        assert await refused(nobody) == 401
        async with nobody.get("/ops", allow_redirects=False) as answer:
            assert answer.status == 303


# --- who does not keep up ------------------------------------------------------------------------


@asynccontextmanager
async def a_client_that_never_reads(site: Site) -> AsyncIterator[socket.socket]:
    """A raw connection that subscribes to events and then only lets its buffers fill."""
    async with site.signed_in("vera") as session:
        [morsel] = session.cookie_jar.filter_cookies(URL(site.url)).values()
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    door.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(door, ("127.0.0.1", site.server.port))
    head = (
        f"GET {WS} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n"
        f"Cookie: {morsel.key}={morsel.value}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    message = b'{"type":"subscribe","topics":["events"]}'
    frame = bytes([0x81, 0x80 | len(message)]) + bytes(4) + message
    await loop.sock_sendall(door, head.encode() + frame)
    try:
        yield door
    finally:
        door.close()


async def test_a_client_that_never_reads_is_let_go_and_costs_the_others_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pq_daemon.server.live_client.PATIENCE_S", 0.3)
    monkeypatch.setattr("pq_daemon.server.live_client.CLOSE_S", 0.2)
    hub = hub_of(site)
    async with a_client_that_never_reads(site), a_viewer(site) as wire:
        await wait_until(lambda: len(hub._event_hearers) == 1)
        await wire.subscribe("events")
        first = (await wire.hear())["seq"]
        last = first
        most = 0
        while len(hub) == 2:
            tell(site, 100, size=200)
            seqs = await told_numbers(wire, last + 100)
            assert seqs == list(range(last + 1, last + 101))
            last += 100
            most = max(most, *(client._waiting_bytes for client in hub._clients))
    assert most < 3 << 20


async def test_a_client_that_falls_behind_is_told_of_the_gap(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pq_daemon.server.live_client.WAITING_EVENTS_MOST", 700)
    async with a_viewer(site) as wire:
        await wire.subscribe("events")
        await wire.hear()
        tell(site, 4000)  # one moment brings more than may wait
        assert (await wire.hear())["type"] == "gap"
        snapshot = await wire.hear()
        assert snapshot["type"] == "snapshot"
        tell(site, 1)
        assert await told_numbers(wire, snapshot["seq"] + 1) == [snapshot["seq"] + 1]


async def test_a_closing_server_says_so(store: SqliteStore, tmp_path: Path) -> None:
    async with AsyncExitStack() as serving:
        site = await serving.enter_async_context(a_site(some_settings(tmp_path), store))
        async with a_viewer(site) as wire, asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(wire.closed_with())
            await serving.aclose()
            assert await closing == 1012


async def test_a_waiting_poll_does_not_hold_up_the_end(store: SqliteStore, tmp_path: Path) -> None:
    async with AsyncExitStack() as serving:
        site = await serving.enter_async_context(a_site(some_settings(tmp_path), store))
        place = f"{store.feed.epoch}:{store.feed.seq}"
        listeners = len(store.feed._listeners)
        async with site.signed_in("vera") as session, asyncio.TaskGroup() as tasks:
            poll = tasks.create_task(_poll(session, place))
            await wait_until(lambda: len(store.feed._listeners) > listeners)
            await serving.aclose()
            assert (await poll)["items"] == []  # answered, not cut off


async def _poll(session: aiohttp.ClientSession, place: str) -> Any:
    async with session.get(f"/api/v1/events?after={place}&wait=60") as answer:
        return await answer.json()
