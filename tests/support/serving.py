"""The real server on the real store, with a control panel that tests can turn."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import argon2

from pq_daemon.config import (
    DaemonSettings,
    QueueSettings,
    ServerSettings,
    Settings,
    UserSettings,
    WatchSettings,
)
from pq_daemon.errors import NotFoundError
from pq_daemon.inspection.explaining import explain
from pq_daemon.inspection.findings import Finding, Grade, as_json
from pq_daemon.jobs.model import QueueName, WatchName
from pq_daemon.jobs.status import SlotState, SlotStatus, WatchState, WatchStatus
from pq_daemon.server.serving import serve
from pq_daemon.store.protocol import QueueEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pq_daemon.jobs.model import JobId, Progress
    from pq_daemon.server.controls import Phase, Reloaded
    from pq_daemon.server.serving import Server
    from pq_daemon.store.protocol import Actor, Store

CHEAP: Final = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Real argon2id; the costs are not what these tests are about."""

PASSWORDS: Final = {"mara": "correct horse", "olga": "battery staple", "vera": "tr0ub4dor&3"}
ROLES: Final = {"mara": "manager", "olga": "operator", "vera": "viewer"}


@dataclass
class Panel:
    """What the daemon would hand the server: plain values."""

    settings: Settings
    phase: Phase = "running"
    last_reload: Reloaded | None = None
    slot_list: list[SlotStatus] = field(default_factory=list)
    watch_list: list[WatchStatus] = field(default_factory=list)
    progresses: dict[JobId, Progress] = field(default_factory=dict)
    rescanned: list[WatchName] = field(default_factory=list)
    next_reload: Reloaded | None = None
    reloaded_by: list[Actor] = field(default_factory=list)

    def slots(self) -> list[SlotStatus]:
        return self.slot_list

    def watches(self) -> list[WatchStatus]:
        return self.watch_list

    def progress(self, job: JobId) -> Progress | None:
        return self.progresses.get(job)

    def rescan(self, watch: WatchName) -> None:
        if watch not in {status.name for status in self.watch_list}:
            raise NotFoundError(f"no watch {watch}")
        self.rescanned.append(watch)

    async def explain(self, path: bytes) -> dict[str, Any]:
        return explain(path, self.settings)

    async def check(self) -> list[dict[str, Any]]:
        return as_json([Finding(Grade.OK, "watch.files", "there")])

    async def diagnose(self) -> list[dict[str, Any]]:
        return as_json([Finding(Grade.BAD, "clock", "it stands")])

    async def reload(self, actor: Actor) -> Reloaded:
        self.reloaded_by.append(actor)
        assert self.next_reload is not None
        self.last_reload = self.next_reload
        return self.next_reload


def some_users(*names: str) -> tuple[UserSettings, ...]:
    return tuple(
        UserSettings.model_validate(
            {"name": name, "role": ROLES[name], "password_hash": CHEAP.hash(PASSWORDS[name])}
        )
        for name in names or ROLES
    )


def some_settings(tmp_path: Path, **changes: Any) -> Settings:
    """One queue and one watch, both called files; three users, one a role; any free port."""
    watched = tmp_path / "watched"
    watched.mkdir(exist_ok=True)
    server = {"listen": "127.0.0.1:0"} | changes.pop("server", {})
    daemon = {"state_dir": tmp_path / "state"} | changes.pop("daemon", {})
    return Settings(
        daemon=DaemonSettings(**daemon),
        server=ServerSettings(**server),
        users=changes.pop("users", some_users()),
        watches=(WatchSettings(name="files", path=watched, queue="files"),),
        queues={
            "files": QueueSettings(name="files", command=("true",)),
            **changes.pop("queues", {}),
        },
        **changes,
    )


def some_panel(settings: Settings) -> Panel:
    return Panel(
        settings,
        slot_list=[SlotStatus(number, SlotState.IDLE) for number in range(1, 5)],
        watch_list=[WatchStatus(WatchName("files"), WatchState.OK)],
    )


@dataclass
class Site:
    """A server that listens, and the ways to talk to it."""

    url: str
    server: Server
    store: Store
    panel: Panel

    @property
    def settings(self) -> Settings:
        return self.panel.settings

    @property
    def ours(self) -> dict[str, str]:
        """What a browser says on our own pages."""
        return {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}

    @asynccontextmanager
    async def visitor(self, **headers: str) -> AsyncIterator[aiohttp.ClientSession]:
        """A browser without a session, on our own pages unless `headers` says otherwise."""
        async with aiohttp.ClientSession(
            self.url,
            headers=headers or self.ours,
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as session:
            yield session

    @asynccontextmanager
    async def signed_in(self, name: str) -> AsyncIterator[aiohttp.ClientSession]:
        async with self.visitor() as session:
            form = {"username": name, "password": PASSWORDS[name]}
            async with session.post("/login", data=form, allow_redirects=False) as answer:
                assert answer.status == 303, await answer.text()
            yield session

    @asynccontextmanager
    async def on_socket(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.UnixConnector(str(self.server.socket))
        async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
            yield session


@asynccontextmanager
async def a_site(
    settings: Settings, store: Store, panel: Panel | None = None
) -> AsyncIterator[Site]:
    """Serve a store that has the queues and watches of these settings configured."""
    panel = panel or some_panel(settings)
    await store.configure_queues(
        [
            QueueEntry(QueueName(q.name), q.handler, q.concurrency, q.paused)
            for q in settings.queues.values()
        ]
    )
    await store.configure_watches(
        [
            (WatchName(watch.name), bytes(watch.path.resolve()), QueueName(watch.queue))
            for watch in settings.watches
        ]
    )
    async with serve(settings, store, panel) as server:
        assert server.url is not None
        yield Site(server.url, server, store, panel)
