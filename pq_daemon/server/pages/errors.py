"""What a person sees when something does not work, and the way to the login."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from pq_daemon.server.pages.rendering import render

if TYPE_CHECKING:
    from pq_daemon.server.problems import Problem


def error_page(request: web.Request, problem: Problem) -> web.Response:
    response = render(request, "error.html", {"problem": problem}, status=problem.status)
    response.headers.update(problem.headers)
    return response


def to_login(request: web.Request) -> web.Response:
    """Send somebody who is not signed in to the login, and from there back to the page."""
    target = request.path_qs if request.method in {"GET", "HEAD"} else "/manager"
    return see_other(f"/login?next={quote(target, safe='/')}")


def see_other(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address})


def local(address: str | None, otherwise: str = "/manager") -> str:
    """Return an address of our own pages, or another one if it is none.

    Browsers read a backslash as a slash and skip controls, so neither may be in it.
    """
    if not address or not address.startswith("/") or address.startswith(("//", "/\\")):
        return otherwise
    if not address.isascii() or not address.isprintable() or "\\" in address:
        return otherwise
    return address
