"""/login and /logout: one text for every failure, the same work for every name."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config import passwords
from pq_daemon.server.bodies import form as form_of
from pq_daemon.server.keys import ACCESS, DOORMAN, HUB, PASSWORDS, SESSIONS, STORE, WHO
from pq_daemon.server.pages.errors import local, see_other
from pq_daemon.server.pages.rendering import render
from pq_daemon.server.routing import form, page
from pq_daemon.store.protocol import Actor

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.config.settings import UserSettings

log = logging.getLogger(__name__)

NAME_MOST: Final = 64


async def show(request: web.Request) -> web.Response:
    target = local(request.query.get("next"))
    if request[WHO].role is not None:
        return see_other(target)
    return _page(request, target)


def _page(
    request: web.Request, target: str, *, name: str = "", status: int = 200, **said: Any
) -> web.Response:
    access = request.app[ACCESS]
    context = {
        "target": target,
        "name": name,
        "ask_name": access.only_user is None,
        "has_users": bool(access.users),
        "failed": False,
        "wait": 0,
        **said,
    }
    response = render(request, "login.html", context, status=status)
    if said.get("wait"):
        response.headers["Retry-After"] = str(said["wait"])
    return response


async def sign_in(request: web.Request) -> web.Response:
    fields = await form_of(request)
    target = local(fields.get("next"))
    access = request.app[ACCESS]
    if not access.users:
        return _page(request, target, status=403)
    only = access.only_user
    name = only.name if only else fields.get("username", "").strip()[:NAME_MOST]
    doorman, address = request.app[DOORMAN], request[WHO].address
    wait = math.ceil(doorman.wait(name, address))
    if wait > 0:
        log.warning("login not tried", extra={"user": name, "address": address, "wait": wait})
        return _page(request, target, name=name, status=429, wait=wait)
    user, stand_in = access.users.get(name), next(iter(access.users.values()))
    desk, password = request.app[PASSWORDS], fields.get("password", "")
    knows = await desk.knows(user, stand_in, password)
    if user is None or not knows:
        return await _refused(request, target, name)
    doorman.welcomed(name, address)
    return await _welcomed(request, user, target)


async def _refused(request: web.Request, target: str, name: str) -> web.Response:
    doorman, address = request.app[DOORMAN], request[WHO].address
    doorman.failed(name, address)
    await request.app[STORE].audit(Actor(name, "", "page", address), "login.failed", name)
    log.warning("login failed", extra={"user": name, "address": address})
    wait = math.ceil(doorman.wait(name, address))
    return _page(request, target, name=name, status=401, failed=True, wait=wait)


async def _welcomed(request: web.Request, user: UserSettings, target: str) -> web.Response:
    sessions, old = request.app[SESSIONS], request[WHO]
    if old.token_hash is not None:
        await sessions.close(old.token_hash)
    response = see_other(target)
    await sessions.open(user, response)
    actor = Actor(user.name, user.role, "page", old.address)
    await request.app[STORE].audit(actor, "login", user.name)
    log.info("login", extra={"user": user.name, "address": old.address})
    if passwords.needs_rehash(user.password_hash):
        log.warning("password hash is of older costs: run pq passwd", extra={"user": user.name})
    return response


async def sign_out(request: web.Request) -> web.Response:
    asker, sessions = request[WHO], request.app[SESSIONS]
    response = see_other("/login")
    if asker.token_hash is not None:
        await sessions.close(asker.token_hash)
        await request.app[STORE].audit(asker.actor, "logout", asker.name)
        request.app[HUB].doubt()
    sessions.forget(response)
    return response


ROUTES: Final = (
    page("/login", show, "nobody"),
    form("/login", sign_in, "nobody"),
    form("/logout", sign_out, "nobody"),
)
