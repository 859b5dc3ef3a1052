"""What stands between the network and a handler: the door, the host, the origin, who it is.

The door turns every error into an answer; nothing passes it as a traceback. The host must be one
of ours, also on loopback. A write, and the WebSocket, must come from our own pages: browsers say
so in Origin and Sec-Fetch-Site, and foreign pages cannot forge either. The control socket has none
of this; no browser reaches it.
"""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp import web

from pq_daemon.errors import PqError
from pq_daemon.server.identity import is_on_socket, who_asks
from pq_daemon.server.keys import ACCESS, WHO
from pq_daemon.server.pages.errors import error_page, to_login
from pq_daemon.server.problems import Problem, from_http, from_pq

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

    from pq_daemon.config.settings import Role
    from pq_daemon.server.identity import Asker, SocketRights
    from pq_daemon.server.routing import Handler, Need

log = logging.getLogger(__name__)

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
ANONYMOUS: Final = ("/static/", "/healthz", "/readyz")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Server": "pq-daemon",
}


async def harden(_request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on every answer, whoever made it."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer, whatever happens behind."""
    try:
        return await handler(request)
    except Problem as problem:
        return _told(request, problem)
    except PqError as error:
        return _told(request, from_pq(error))
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _told(request, from_http(error))
    except Exception:  # the request door: one bad request must not cost more than itself
        trace = secrets.token_hex(8)
        log.exception("request failed", extra={"trace": trace, "route": _route_of(request)})
        detail = "something went wrong in the daemon; its log says more under this trace id"
        return _told(request, Problem(500, "internal", detail, trace_id=trace))


def _told(request: web.Request, problem: Problem) -> web.StreamResponse:
    unknown = problem.status == HTTPStatus.UNAUTHORIZED
    if unknown:
        problem.headers.setdefault("WWW-Authenticate", "Bearer")
    if is_for_people(request):
        return to_login(request) if unknown else error_page(request, problem)
    return problem.response()


def is_for_people(request: web.Request) -> bool:
    """Whether a person looks at the answer: pages, and no programs, probes or assets."""
    return not request.path.startswith(("/api/", *ANONYMOUS))


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical if resource else 'unknown'}"


@web.middleware
async def host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse names that are not ours."""
    if not is_on_socket(request) and not request.app[ACCESS].answers_to(host_of(request)):
        raise Problem(
            403,
            "host_not_allowed",
            "this host name is not ours; if it should be, add it to server.allowed_hosts",
        )
    return await handler(request)


@web.middleware
async def origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse writes and WebSockets that other pages send, and bodies we do not unpack."""
    writes = request.method not in SAFE
    upgrades = request.headers.get("Upgrade", "").lower() == "websocket"
    if (writes or upgrades) and not is_on_socket(request) and not _comes_from_us(request):
        raise Problem(
            403, "foreign_origin", "this must come from our own pages: Origin and Sec-Fetch-Site"
        )
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_media_type", "bodies are taken without Content-Encoding")
    return await handler(request)


def _comes_from_us(request: web.Request) -> bool:
    """Whether everything the browser says of the sender names us, and it says something."""
    if "Authorization" in request.headers:
        return True  # no cookie counts then, so there is nothing to abuse
    said = request.headers.getall("Origin", []) + request.headers.getall("Sec-Fetch-Site", [])
    origins = [_is_our_origin(request, one) for one in request.headers.getall("Origin", [])]
    sites = [one == "same-origin" for one in request.headers.getall("Sec-Fetch-Site", [])]
    return bool(said) and all(origins) and all(sites)


def _is_our_origin(request: web.Request, given: str) -> bool:
    parts = urlsplit(given)
    return parts.scheme == request.scheme and parts.netloc.lower() == host_of(request).lower()


def host_of(request: web.Request) -> str:
    """Return the host that was named; aiohttp would fill in a missing one."""
    return request.headers.get("Host", "")


def identify(rights: SocketRights) -> Middleware:
    """Return the guard that finds out who asks; a probe and a stylesheet are asked by nobody."""

    @web.middleware
    async def who(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(ANONYMOUS):
            request[WHO] = await who_asks(request, rights)
        return await handler(request)

    return who


def insist(asker: Asker, need: Need, ops_public: str) -> None:
    """Let the asker through, or say why not.

    Raises:
        Problem: 401 nobody is signed in, 403 the role does not reach.

    """
    if need == "nobody" or (need == "ops" and ops_public != "off"):
        return
    role: Role = "viewer" if need == "ops" else need
    if asker.role is None:
        raise Problem(401, "unauthorized", "sign in first")
    if not asker.may(role):
        raise Problem(403, "forbidden", f"this needs the role {role}; {asker.name} is {asker.role}")
