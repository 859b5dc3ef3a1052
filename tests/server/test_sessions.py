"""Signing in and out: what a session is, when it ends, and what a guesser meets."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from pq_daemon.config import UserSettings
from pq_daemon.server.doorman import ENTRIES_MOST, Doorman
from pq_daemon.server.password_desk import LINE_MOST, PasswordDesk
from pq_daemon.server.problems import Problem
from tests.support.serving import CHEAP, PASSWORDS, a_site, some_settings, some_users

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import aiohttp

    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site


async def sign_in(
    session: aiohttp.ClientSession, name: str, password: str, **more: str
) -> tuple[int, Any, str]:
    form = {"username": name, "password": password, **more}
    async with session.post("/login", data=form, allow_redirects=False) as answer:
        return answer.status, answer.headers, await answer.text()


async def is_known(session: aiohttp.ClientSession) -> bool:
    async with session.get("/api/v1/queues") as answer:
        return answer.status == 200


def cookie_of(session: aiohttp.ClientSession, site: Site) -> str:
    [morsel] = session.cookie_jar.filter_cookies(URL(site.url)).values()
    return f"{morsel.key}={morsel.value}"


async def audited(site: Site) -> list[tuple[str, str, str]]:
    entries = (await site.store.audit_entries(None, 50)).items
    return [(entry.action, entry.actor.name, entry.actor.address) for entry in entries]


async def test_a_session_is_a_hard_cookie_that_only_its_hash_is_kept_of(site: Site) -> None:
    async with site.visitor() as session:
        status, headers, _ = await sign_in(session, "mara", PASSWORDS["mara"])
        assert (status, headers["Location"]) == (303, "/manager")
        [(name, morsel)] = SimpleCookie(headers["Set-Cookie"]).items()
        assert name == f"pq_{site.server.port}"
        assert morsel["httponly"]
        assert morsel["samesite"] == "Strict"
        assert morsel["path"] == "/"
        assert not morsel["domain"]
        token = morsel.value.partition(".")[0]
        assert len(token) >= 43  # 256 bits in base64
        found = await site.store.session(hashlib.sha256(token.encode()).digest())
        assert found is not None
        assert found.user == "mara"
        assert await is_known(session)


async def test_signing_in_again_ends_the_session_before(site: Site) -> None:
    async with site.signed_in("mara") as session:
        before = cookie_of(session, site)
        await sign_in(session, "olga", PASSWORDS["olga"])
        assert cookie_of(session, site) != before
        async with site.visitor(Cookie=before) as old:
            assert not await is_known(old)
        assert await is_known(session)


async def test_signing_out_ends_the_session_at_the_server(site: Site) -> None:
    async with site.signed_in("mara") as session:
        cookie = cookie_of(session, site)
        async with session.post("/logout", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/login")
        assert not await is_known(session)
    async with site.visitor(Cookie=cookie) as thief:
        assert not await is_known(thief)
    assert [row[:2] for row in await audited(site)] == [("logout", "mara"), ("login", "mara")]


async def test_logins_failures_and_whence_are_audited(site: Site) -> None:
    async with site.visitor() as session:
        assert (await sign_in(session, "mara", "wrong"))[0] == 401
        assert (await sign_in(session, "nobody", "wrong"))[0] == 401
    assert await audited(site) == [
        ("login.failed", "nobody", "127.0.0.1"),
        ("login.failed", "mara", "127.0.0.1"),
    ]


async def test_every_failure_reads_the_same(site: Site) -> None:
    async with site.visitor() as session:
        _, _, wrong = await sign_in(session, "mara", "wrong")
        _, _, unknown = await sign_in(session, "root", "wrong")
        _, _, empty = await sign_in(session, "", "")
    said = [
        text.partition('role="alert">')[2].partition("</p>")[0] for text in (wrong, unknown, empty)
    ]
    assert len(set(said)) == 1
    assert said[0]
    assert "wrong" not in wrong


async def test_an_unknown_name_costs_the_same_work(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are one comparison with a hash of the same costs."""
    compared: list[str] = []

    def never(hashed: str, _: str) -> bool:
        compared.append(hashed)
        return False

    monkeypatch.setattr("pq_daemon.config.passwords.verify", never)
    async with site.visitor() as session:
        await sign_in(session, "vera", "x")
        await sign_in(session, "nobody", "x")
    assert [hashed.rpartition("$")[0].rpartition("$")[0] for hashed in compared] == [
        "$argon2id$v=19$m=8,t=1,p=1"
    ] * 2


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/ops", "/ops"),
        ("/manager?state=failed", "/manager?state=failed"),
        ("", "/manager"),
        ("https://evil.example/", "/manager"),
        ("//evil.example", "/manager"),
        ("/\\evil.example", "/manager"),
        ("/\t/evil.example", "/manager"),
        ("javascript:alert(1)", "/manager"),
        ("/manager\r\nSet-Cookie: a=b", "/manager"),
    ],
)
async def test_a_login_leads_only_to_our_own_pages(site: Site, target: str, leads_to: str) -> None:
    async with site.visitor() as session:
        _, headers, _ = await sign_in(session, "vera", PASSWORDS["vera"], next=target)
        assert headers["Location"] == leads_to
        async with session.get("/login", params={"next": target}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, leads_to)


async def test_a_new_password_ends_the_sessions_of_its_account(site: Site) -> None:
    users = [
        user.model_copy(update={"password_hash": CHEAP.hash("new")})
        if user.name == "mara"
        else user
        for user in site.settings.users
    ]
    async with site.signed_in("mara") as mara, site.signed_in("olga") as olga:
        site.server.configure(site.settings.model_copy(update={"users": tuple(users)}))
        assert not await is_known(mara)
        assert await is_known(olga)


async def test_a_removed_account_is_out(site: Site) -> None:
    async with site.signed_in("mara") as mara:
        site.server.configure(site.settings.model_copy(update={"users": some_users("olga")}))
        assert not await is_known(mara)


@asynccontextmanager
async def bent_time(
    open_a_store: Callable[..., Awaitable[SqliteStore]], tmp_path: Path
) -> AsyncIterator[tuple[Site, list[float]]]:
    now = [1_800_000_000.0]
    store = await open_a_store(wall=lambda: now[0])
    async with a_site(some_settings(tmp_path), store) as site:
        yield site, now


async def test_a_session_ends_when_it_idles(
    open_a_store: Callable[..., Awaitable[SqliteStore]], tmp_path: Path
) -> None:
    async with bent_time(open_a_store, tmp_path) as (site, now), site.signed_in("vera") as session:
        now[0] += 29 * 60
        assert await is_known(session)
        now[0] += 29 * 60
        assert await is_known(session)
        now[0] += 31 * 60
        assert not await is_known(session)
        now[0] -= 31 * 60  # the clock never goes back, and it was ended for good
        assert not await is_known(session)


async def test_a_session_ends_after_twelve_hours_whatever_happens(
    open_a_store: Callable[..., Awaitable[SqliteStore]], tmp_path: Path
) -> None:
    async with bent_time(open_a_store, tmp_path) as (site, now), site.signed_in("vera") as session:
        for _ in range(12 * 60 // 20):
            assert await is_known(session)
            now[0] += 20 * 60
        now[0] += 1
        assert not await is_known(session)


async def test_a_cookie_that_is_none_of_ours_is_nobody(site: Site) -> None:
    name = f"pq_{site.server.port}"
    for value in ("", "x", "a.b", "A" * 43 + "." + "0" * 64, "ü"):
        async with site.visitor(Cookie=f"{name}={value}") as session:
            assert not await is_known(session)


async def test_with_one_account_only_the_password_is_asked(
    store: SqliteStore, tmp_path: Path
) -> None:
    settings = some_settings(tmp_path, users=some_users("mara"))
    async with a_site(settings, store) as site, site.visitor() as session:
        async with session.get("/login") as answer:
            assert 'name="username"' not in await answer.text()
        form = {"password": PASSWORDS["mara"]}
        async with session.post("/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 303
        assert await is_known(session)


async def test_without_accounts_the_page_says_how_to_make_one(
    store: SqliteStore, tmp_path: Path
) -> None:
    async with a_site(some_settings(tmp_path, users=()), store) as site, site.visitor() as session:
        async with session.get("/login") as answer:
            assert "pq passwd" in await answer.text()
        assert (await sign_in(session, "admin", "admin123"))[0] == 403


async def test_a_guesser_has_to_wait_and_a_neighbour_has_not(site: Site) -> None:
    async with site.visitor() as session:
        for _ in range(5):
            status, _, _ = await sign_in(session, "mara", "guess")
            assert status == 401
        status, headers, text = await sign_in(session, "mara", PASSWORDS["mara"])
        assert status == 429
        assert int(headers["Retry-After"]) >= 1
        assert "data-countdown" in text
        assert (await sign_in(session, "olga", PASSWORDS["olga"]))[0] == 303


# --- the doorman ---------------------------------------------------------------------------------


def test_waits_double_up_to_five_minutes_and_are_forgotten() -> None:
    now = 0.0
    doorman = Doorman(clock=lambda: now)
    waits = []
    for _ in range(16):
        doorman.failed("anna", "10.0.0.1")
        waits.append(doorman.wait("anna", "10.0.0.1"))
        now += waits[-1]
    assert waits[:8] == [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == 300.0
    doorman.welcomed("anna", "10.0.0.1")
    assert doorman.wait("anna", "10.0.0.1") == 0.0
    doorman.failed("anna", "10.0.0.1")
    assert doorman.wait("anna", "10.0.0.1") == 0.0


def test_an_account_is_not_locked_for_another_address() -> None:
    doorman = Doorman(clock=lambda: 0.0)
    for _ in range(20):
        doorman.failed("anna", "10.0.0.1")
    assert doorman.wait("anna", "10.0.0.1") > 0
    assert doorman.wait("anna", "10.0.0.2") == 0


def test_many_names_from_one_address_have_to_wait_too() -> None:
    doorman = Doorman(clock=lambda: 0.0)
    for number in range(40):
        doorman.failed(f"name-{number}", "10.0.0.1")
    assert 0 < doorman.wait("someone-else", "10.0.0.1") <= 60.0


def test_the_doormans_memory_is_bounded() -> None:
    doorman = Doorman(clock=lambda: 0.0)
    for number in range(ENTRIES_MOST + 500):
        doorman.failed("anna", f"address-{number}")
    assert len(doorman._records) == ENTRIES_MOST


# --- the desk ------------------------------------------------------------------------------------


async def test_a_storm_of_logins_is_turned_away_at_the_desk() -> None:
    desk = PasswordDesk()
    user = UserSettings(name="anna", password_hash=CHEAP.hash("secret"))
    desk._line = LINE_MOST
    with pytest.raises(Problem) as caught:
        await desk.knows(user, user, "secret")
    assert caught.value.status == 429
    desk._line = 0
    assert await desk.knows(user, user, "secret")
    assert not await desk.knows(None, user, "secret")


async def test_the_demo_password_is_told_while_it_is_in_use(
    store: SqliteStore, tmp_path: Path
) -> None:
    demo = UserSettings(name="admin", role="manager", password_hash=CHEAP.hash("admin123"))
    settings = some_settings(tmp_path, users=(demo,))
    async with a_site(settings, store) as site, site.visitor() as session:
        await sign_in(session, "admin", "admin123")
        async with session.get("/manager") as answer:
            assert "pq passwd admin" in await answer.text()
    async with (
        a_site(some_settings(tmp_path), store) as site,
        site.signed_in("mara") as session,
        session.get("/manager") as answer,
    ):
        assert "pq passwd" not in await answer.text()
