"""Who may do what: every address, asked by nobody and by each role.

The list of what is open to everybody is written out here. A route that somebody adds without
thinking of rights fails this test, not a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.jobs.order import Moment
from pq_daemon.server.app import ROUTES
from pq_daemon.server.controls import Reloaded
from tests.support.builders import a_running_job

if TYPE_CHECKING:
    import aiohttp

    from pq_daemon.server.routing import Route
    from tests.support.serving import Site

OPEN_TO_ALL = {
    ("GET", "/"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/static/{version}/{name}"),
}
ABOUT_SESSIONS = {("POST", "/login"), ("POST", "/logout")}
"""Asked on their own: one says 401 of wrong passwords, the other would end our own session."""

OPERATORS = {
    ("POST", "/manager/jobs/{id}/{action}"),
    ("POST", "/api/v1/jobs"),
    ("POST", "/api/v1/jobs/{id}/retry"),
    ("POST", "/api/v1/jobs/{id}/cancel"),
    ("POST", "/api/v1/jobs/{id}/hold"),
    ("POST", "/api/v1/jobs/{id}/release"),
    ("POST", "/api/v1/jobs/{id}/run-now"),
    ("PATCH", "/api/v1/jobs/{id}"),
    ("GET", "/api/v1/check"),
    ("POST", "/api/v1/watches/{name}/files/process"),
    ("POST", "/api/v1/watches/{name}/rescan"),
}
MANAGERS = {
    ("POST", "/manager/queues/{name}/{action}"),
    ("DELETE", "/api/v1/jobs/{id}"),
    ("GET", "/api/v1/doctor"),
    ("PATCH", "/api/v1/queues/{name}"),
    ("POST", "/api/v1/queues/{name}/pause"),
    ("POST", "/api/v1/queues/{name}/resume"),
    ("GET", "/api/v1/audit"),
    ("POST", "/api/v1/reload"),
}
ALLOWED = {"viewer": 1, "operator": 2, "manager": 3}
NAMES = {"viewer": "vera", "operator": "olga", "manager": "mara"}


def least(route: Route) -> int:
    """The lowest rank that may use a route, by the lists above."""
    key = route.method, route.path
    if key in OPEN_TO_ALL:
        return 0
    return 3 if key in MANAGERS else 2 if key in OPERATORS else 1


async def asked(session: aiohttp.ClientSession, route: Route, address: str) -> int:
    body: dict[str, Any] = {}
    if route.method != "GET" and route.path.startswith("/api/"):
        body = {"json": {}}
    elif route.method != "GET":
        body = {"data": {}}
    async with session.request(route.method, address, allow_redirects=False, **body) as answer:
        if answer.status == 303 and answer.headers["Location"].startswith("/login"):
            return 401  # how pages say it
        return answer.status


def addressed(route: Route, job: str) -> str:
    address = route.path.replace("{id}", job).replace("{attempt}", "1")
    action = "pause" if "/queues/" in route.path else "cancel"
    if route.path.startswith("/static/"):
        return "/static/x/app.css"
    return address.replace("{name}", "files").replace("{action}", action)


def test_the_lists_name_only_routes_that_are_there() -> None:
    known = {(route.method, route.path) for route in ROUTES}
    assert not (OPEN_TO_ALL | OPERATORS | MANAGERS) - known


@pytest.mark.parametrize("role", [None, "viewer", "operator", "manager"])
async def test_every_route_asks_for_its_role(site: Site, role: str | None) -> None:
    site.panel.next_reload = Reloaded(Moment(1))
    job = str((await a_running_job(site.store)).id)
    rank = ALLOWED.get(role or "", 0)
    routes = [route for route in ROUTES if (route.method, route.path) not in ABOUT_SESSIONS]
    async with site.signed_in(NAMES[role]) if role else site.visitor() as session:
        for route in routes:
            status = await asked(session, route, addressed(route, job))
            if rank >= least(route):
                assert status not in {401, 403, 500}, f"{role} {route.method} {route.path}"
            else:
                wanted = 401 if role is None else 403
                assert status == wanted, f"{role} {route.method} {route.path}"


async def test_a_route_that_is_not_there_is_a_problem_of_its_own_kind(site: Site) -> None:
    async with site.signed_in("mara") as session:
        async with session.get("/api/v1/bulk") as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"
            assert (await answer.json(content_type=None))["code"] == "not_found"
        async with session.delete("/api/v1/queues/files") as answer:
            assert answer.status == 405
            assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "PATCH"}


async def test_a_role_that_was_taken_away_is_gone_with_the_next_request(site: Site) -> None:
    users = [
        user.model_copy(update={"role": "viewer"}) if user.name == "mara" else user
        for user in site.settings.users
    ]
    async with site.signed_in("mara") as session:
        async with session.get("/api/v1/audit") as answer:
            assert answer.status == 200
        site.server.configure(site.settings.model_copy(update={"users": tuple(users)}))
        async with session.get("/api/v1/audit") as answer:
            assert answer.status == 403
            assert "viewer" in (await answer.json(content_type=None))["detail"]
