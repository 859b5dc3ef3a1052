"""What stands before every handler: host, origin, headers, and how errors are told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from tests.support.builders import a_job
from tests.support.serving import PASSWORDS

if TYPE_CHECKING:
    from tests.support.serving import Site


async def status_of(site: Site, headers: dict[str, str], *, cookie: bool) -> int:
    """Hold a job with these headers, signed in or not; the status tells who stopped it."""
    job = await a_job(site.store)
    async with site.signed_in("mara") if cookie else site.visitor() as session:
        session.headers.clear()
        url = f"/api/v1/jobs/{job.id}/hold"
        async with session.post(url, json={}, headers=headers) as answer:
            return answer.status


ORIGINS: list[tuple[dict[str, str], bool]] = [
    ({"Origin": "OURS"}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Origin": "OURS", "Sec-Fetch-Site": "same-origin"}, True),
    ({}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "http://127.0.0.1:1"}, False),
    ({"Origin": "http://localhost"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "none"}, False),
    ({"Origin": "OURS", "Sec-Fetch-Site": "cross-site"}, False),
    ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
]


@pytest.mark.parametrize(("headers", "ours"), ORIGINS)
@pytest.mark.parametrize("cookie", [True, False])
async def test_a_write_must_come_from_our_own_pages(
    site: Site, headers: dict[str, str], ours: bool, cookie: bool
) -> None:
    said = {name: site.url if value == "OURS" else value for name, value in headers.items()}
    through = 200 if cookie else 401
    assert await status_of(site, said, cookie=cookie) == (through if ours else 403)


async def test_our_origin_on_another_scheme_or_a_longer_host_is_not_ours(site: Site) -> None:
    for origin in (
        site.url.replace("http:", "https:"),
        site.url + ".evil.example",
        site.url + "/x",
    ):
        wanted = 200 if origin.endswith("/x") else 403
        assert await status_of(site, {"Origin": origin}, cookie=True) == wanted


async def test_reading_needs_no_origin(site: Site) -> None:
    async with site.signed_in("vera") as session:
        session.headers.clear()
        async with session.get("/api/v1/jobs") as answer:
            assert answer.status == 200


async def test_a_login_from_a_foreign_page_is_refused(site: Site) -> None:
    async with site.visitor(Origin="https://evil.example") as session:
        form = {"username": "mara", "password": PASSWORDS["mara"]}
        async with session.post("/login", data=form) as answer:
            assert answer.status == 403
            assert not answer.cookies


async def test_a_bearer_token_is_not_yet_available(site: Site) -> None:
    async with site.signed_in("mara") as session:
        headers = {"Authorization": "Bearer pq_x"}
        async with session.get("/api/v1/jobs", headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            problem = await answer.json(content_type=None)
    assert problem["code"] == "unauthorized"
    assert "not yet available" in problem["detail"]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:1234", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("pq.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("evil.example:8501", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/login", "/api/v1/jobs", "/static/x/app.css"])
async def test_the_host_must_be_ours_on_every_address(
    site: Site, host: str, allowed: bool, path: str
) -> None:
    async with site.visitor(Host=host) as session, session.get(path) as answer:
        assert (answer.status != 403) == allowed


async def test_allowed_hosts_follow_a_reload(site: Site) -> None:
    server = site.settings.server.model_copy(update={"allowed_hosts": ("pq.example",)})
    async with site.visitor(Host="pq.example:8080") as session:
        async with session.get("/healthz") as answer:
            assert answer.status == 403
        site.server.configure(site.settings.model_copy(update={"server": server}))
        async with session.get("/healthz") as answer:
            assert answer.status == 200


PATHS = ["/login", "/manager", "/ops", "/nope", "/api/v1/jobs", "/api/v1/nope", "/healthz"]


@pytest.mark.parametrize("path", [*PATHS, "/static/x/app.css", "/static/x/nope.css"])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_the_headers_are_on_every_answer(site: Site, path: str, signed_in: bool) -> None:
    async with (
        site.signed_in("vera") if signed_in else site.visitor() as session,
        session.get(path, allow_redirects=False) as answer,
    ):
        headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Permissions-Policy"]
    assert headers["Server"] == "pq-daemon"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    if not path.startswith("/static/x/app"):
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "send", "status", "code"),
    [
        ("/api/v1/jobs", {"data": "{}"}, 415, "unsupported_media_type"),
        ("/api/v1/jobs", {"data": aiohttp.FormData({"a": "b"})}, 415, "unsupported_media_type"),
        ("/api/v1/jobs", {"json": []}, 400, "invalid"),
        ("/api/v1/jobs", {"json": {"queue": "files", "colour": 1}}, 400, "invalid"),
        (
            "/api/v1/jobs",
            {"data": "{", "headers": {"Content-Type": "application/json"}},
            400,
            "invalid",
        ),
        (
            "/api/v1/jobs",
            {
                "data": '{"queue":"files","payload":NaN}',
                "headers": {"Content-Type": "application/json"},
            },
            400,
            "invalid",
        ),
        (
            "/api/v1/jobs",
            {"data": "[" * 50_000, "headers": {"Content-Type": "application/json"}},
            400,
            "invalid",
        ),
        ("/api/v1/jobs", {"json": {"queue": "files", "payload": "x" * 200_000}}, 413, "too_large"),
        (
            "/api/v1/jobs",
            {"json": {}, "headers": {"Content-Encoding": "gzip"}},
            415,
            "unsupported_media_type",
        ),
        ("/api/v1/jobs/99/hold", {"json": {}}, 404, "not_found"),
        ("/api/v1/jobs/x/hold", {"json": {}}, 404, "not_found"),
        ("/api/v1/jobs/" + "9" * 30 + "/hold", {"json": {}}, 404, "not_found"),
        ("/api/v1/queues/nope/pause", {"json": {}}, 404, "not_found"),
    ],
)
async def test_problems_have_one_shape(
    site: Site, path: str, send: dict[str, Any], status: int, code: str
) -> None:
    async with site.signed_in("mara") as session, session.post(path, **send) as answer:
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        problem = json.loads(await answer.text())
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"] == f"urn:pq-daemon:problem:{code}"


@pytest.mark.parametrize(
    "query",
    [
        "colour=red",
        "state=done",
        "state=queued&state=nope",
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=5&limit=6",
        "queue=nowhere",
        "queue=%00",
        "watch=nowhere",
        "after=yesterday",
        "after=2026-11-24T08:00:00",
        "before=99999-01-01T00:00:00Z",
        "cursor=abc",
        "cursor=%ff",
        "search=" + "x" * 301,
    ],
)
async def test_a_query_that_means_nothing_is_refused(site: Site, query: str) -> None:
    url = URL(f"/api/v1/jobs?{query}", encoded=True)
    async with site.signed_in("vera") as session, session.get(url) as answer:
        assert answer.status == 400, await answer.text()
        assert (await answer.json(content_type=None))["code"] == "invalid"


@pytest.mark.parametrize("path", ["/queues", "/consumers", "/stats", "/config", "/jobs/1"])
async def test_an_unknown_parameter_is_refused_everywhere(site: Site, path: str) -> None:
    async with site.signed_in("vera") as session, session.get(f"/api/v1{path}?x=1") as answer:
        assert answer.status == 400


async def test_a_bug_tells_a_trace_id_and_nothing_else(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.panel.slots = None  # type: ignore[method-assign, assignment] # calling it is the bug
    async with site.signed_in("vera") as session, session.get("/api/v1/consumers") as answer:
        assert answer.status == 500
        problem = json.loads(await answer.text())
    assert problem["code"] == "internal"
    assert "NoneType" not in json.dumps(problem)
    [record] = [record for record in caplog.records if record.message == "request failed"]
    assert getattr(record, "trace", None) == problem["trace_id"]


async def test_a_body_that_drips_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pq_daemon.server.bodies.TIME_MOST_S", 0.05)
    async with site.signed_in("mara") as session:
        cookies = session.cookie_jar.filter_cookies(URL(site.url))
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    head = (
        f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n"
        f"Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n"
        f"Content-Length: 9\r\n\r\n{{"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"too_slow" in await reader.read()  # to the end: the connection is not kept
    writer.close()
    await writer.wait_closed()


async def test_a_page_that_needs_a_login_leads_there_and_back(site: Site) -> None:
    async with site.visitor() as session:
        target = "/manager?state=failed&search=a%26b"
        async with session.get(URL(target, encoded=True), allow_redirects=False) as answer:
            assert answer.status == 303
            assert (
                answer.headers["Location"]
                == "/login?next=/manager%3Fstate%3Dfailed%26search%3Da%2526b"
            )
        form = {"username": "vera", "password": PASSWORDS["vera"], "next": target}
        async with session.post("/login", data=form, allow_redirects=False) as answer:
            assert answer.headers["Location"] == target
