"""The two doors: addresses that are taken, sockets of the dead, and whom the socket obeys."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import stat
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import aiohttp
import pytest

from pq_daemon.config.socket import socket_path
from pq_daemon.runtime.assets import asset_dir
from pq_daemon.server import keys
from pq_daemon.server.identity import Peer, SocketRights
from pq_daemon.server.listening import (
    ListenError,
    group_number,
    listener_on,
    tcp_sockets,
    unix_socket,
)
from pq_daemon.server.serving import serve
from tests.support.builders import a_job
from tests.support.serving import a_site, some_panel, some_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site


async def test_a_port_in_use_names_who_has_it(store: SqliteStore, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert listener_on(port) == os.getpid()
        settings = some_settings(tmp_path, server={"listen": f"127.0.0.1:{port}"})
        with pytest.raises(ListenError) as caught:
            async with serve(settings, store, some_panel(settings)):
                pass
    assert caught.value.code == "listen"
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)
    assert not socket_path(settings).exists()


async def test_an_address_that_is_not_ours_is_told(store: SqliteStore, tmp_path: Path) -> None:
    settings = some_settings(tmp_path, server={"listen": "192.0.2.1:8501"})
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:8501"):
        async with serve(settings, store, some_panel(settings)):
            pass


@pytest.mark.parametrize(
    "listen", ["localhost", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", ""]
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ListenError):
        tcp_sockets(listen)


def test_localhost_means_every_loopback_address() -> None:
    doors = tcp_sockets("localhost:0")
    assert {door.getsockname()[0] for door in doors} <= {"127.0.0.1", "::1"}
    for door in doors:
        door.close()


async def test_without_tcp_only_the_socket_listens(store: SqliteStore, tmp_path: Path) -> None:
    settings = some_settings(tmp_path)
    async with serve(settings, store, some_panel(settings), tcp=False) as server:
        assert server.url is None
        connector = aiohttp.UnixConnector(str(server.socket))
        async with (
            aiohttp.ClientSession("http://pq", connector=connector) as session,
            session.get("/healthz") as answer,
        ):
            assert answer.status == 200


# --- the socket's file ---------------------------------------------------------------------------


async def test_the_socket_is_its_owners_alone_and_gone_at_the_end(
    store: SqliteStore, tmp_path: Path
) -> None:
    async with a_site(some_settings(tmp_path), store) as site:
        path = site.server.socket
        assert path == tmp_path / "state" / "pq.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_group_may_use_its_socket(tmp_path: Path) -> None:
    with unix_socket(tmp_path / "pq.sock", group=os.getgid()):
        found = (tmp_path / "pq.sock").stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == os.getgid()


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "pq.sock"))
    dead.close()
    with unix_socket(tmp_path / "pq.sock", None), socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(str(tmp_path / "pq.sock")) == 0


def test_a_living_daemons_socket_is_not(tmp_path: Path) -> None:
    with unix_socket(tmp_path / "pq.sock", None):
        with (
            pytest.raises(ListenError, match="another daemon"),
            unix_socket(tmp_path / "pq.sock", None),
        ):
            pass
        assert (tmp_path / "pq.sock").exists()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pq.sock").write_text("precious")
    with pytest.raises(ListenError), unix_socket(tmp_path / "pq.sock", None):
        pass
    assert (tmp_path / "pq.sock").read_text() == "precious"


def test_a_directory_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="run"), unix_socket(tmp_path / "run" / "pq.sock", None):
        pass
    with pytest.raises(ListenError, match="no group"):
        group_number("no-such-group-here")
    assert group_number("") is None


async def test_a_long_path_is_bound_too(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """107 bytes fit into a socket's address; through the directory's descriptor any path does."""
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    monkeypatch.setenv("PQ_SOCKET", str(directory / "pq.sock"))
    async with a_site(some_settings(tmp_path), store) as site:
        assert site.server.socket == directory / "pq.sock"
        descriptor = os.open(directory, os.O_PATH)
        connector = aiohttp.UnixConnector(f"/proc/self/fd/{descriptor}/pq.sock")
        async with (
            aiohttp.ClientSession("http://pq", connector=connector) as session,
            session.get("/api/v1/jobs") as answer,
        ):
            assert answer.status == 200
        os.close(descriptor)
    assert not (directory / "pq.sock").exists()


def test_where_the_socket_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PQ_SOCKET", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    alone = some_settings(tmp_path)
    shared = some_settings(tmp_path, server={"socket_group": "pq"})
    assert socket_path(None) == Path("/run/pq/pq.sock")
    assert socket_path(alone) == tmp_path / "state" / "pq.sock"
    assert socket_path(shared) == Path("/run/pq/pq.sock")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/pq-two:/run/other")
    assert socket_path(shared) == Path("/run/pq-two/pq.sock")
    monkeypatch.setenv("PQ_SOCKET", "/somewhere/else.sock")
    assert [socket_path(one) for one in (None, alone, shared)] == [Path("/somewhere/else.sock")] * 3


# --- whom it obeys -------------------------------------------------------------------------------


async def test_the_owner_of_the_state_directory_is_a_manager(site: Site) -> None:
    job = await a_job(site.store)
    async with site.on_socket() as session:
        async with session.post(f"/api/v1/jobs/{job.id}/hold", json={}) as answer:
            assert answer.status == 200
        async with session.post("/api/v1/queues/files/pause", json={}) as answer:
            assert (await answer.json())["paused"]["by"] == f"uid {os.getuid()}"
        async with session.get("/api/v1/audit") as answer:
            entries = (await answer.json())["items"]
    assert entries[0]["actor"] == {
        "name": f"uid {os.getuid()}",
        "role": "manager",
        "via": "socket",
        "address": f"pid {os.getpid()}",
    }


@pytest.mark.parametrize(
    ("uid", "groups", "role"),
    [(0, (), "manager"), (1000, (), "manager"), (1001, (50,), "operator"), (1001, (51,), None)],
)
def test_rights_on_the_socket(uid: int, groups: tuple[int, ...], role: str | None) -> None:
    assert SocketRights(1000, 50).role(Peer(1, uid, frozenset(groups))) == role
    assert SocketRights(1000, None).role(Peer(1, 1001, frozenset(groups))) is None


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that other users reach; a test's own is its owner's alone."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


STRANGER = """
import os, socket, sys
os.setgroups([int(group) for group in sys.argv[3:]])
os.setgid(65534)
os.setuid(int(sys.argv[2]))
door = socket.socket(socket.AF_UNIX)
door.connect(sys.argv[1])
door.sendall(b"GET /api/v1/audit HTTP/1.1\\r\\nHost: pq\\r\\nConnection: close\\r\\n\\r\\n")
answer = b""
while more := door.recv(65536):
    answer += more
sys.stdout.write(answer.split(b"\\r\\n\\r\\n")[1].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_asked_for_its_group(
    store: SqliteStore, tmp_path: Path, open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells uid and groups; the file's mode alone is not trusted."""
    monkeypatch.setenv("PQ_SOCKET", str(open_to_all / "pq.sock"))
    settings = some_settings(tmp_path, server={"socket_group": "daemon"})

    async def asked(*groups: int) -> dict[str, str]:
        path = str(site.server.socket)
        command = ["/usr/bin/python3", "-c", STRANGER, path, "65534", *map(str, groups)]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, check=True, timeout=20
        )
        found: dict[str, str] = json.loads(done.stdout)
        return found

    async with a_site(settings, store) as site:
        operator = await asked(group_number("daemon") or 0)
        assert "operator" in operator["detail"]  # known, and the audit needs a manager
        site.server.socket.chmod(0o666)
        stranger = await asked()
        assert (stranger["code"], "65534" in stranger["detail"]) == ("forbidden", True)


# --- what travels with the package ---------------------------------------------------------------


def test_the_packages_directories_are_found() -> None:
    assert (asset_dir("web") / "templates" / "base.html").is_file()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        asset_dir("nowhere")


async def test_static_files_are_named_by_their_content(site: Site) -> None:
    version = site.server.app[keys.ASSETS].version
    async with site.visitor() as session:
        async with session.get(f"/static/{version}/app.css") as answer:
            assert answer.content_type == "text/css"
            assert "immutable" in answer.headers["Cache-Control"]
        async with session.get("/static/older/live.js") as answer:
            assert answer.content_type == "text/javascript"
            assert answer.headers["Cache-Control"] == "no-cache"
        for path in ("/static/x/../keys.py", "/static/x/%2e%2e%2fkeys.py", "/static/x/nope.css"):
            async with session.get(path) as answer:
                assert answer.status == 404


def test_what_the_browser_loads_is_small() -> None:
    """JavaScript and styles together, as they travel: a bound that keeps the pages light."""
    static = asset_dir("web") / "static"
    bodies = [path.read_bytes() for path in static.iterdir() if path.suffix in {".js", ".css"}]
    assert sum(len(gzip.compress(body)) for body in bodies) < 80 * 1024
