"""/config and /reload: what is in force, without its secrets, and having it read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.config.masking import masked
from pq_daemon.config.problems import ConfigurationError
from pq_daemon.server import values
from pq_daemon.server.answers import json_answer
from pq_daemon.server.bodies import json_object
from pq_daemon.server.keys import CONTROLS, STORE, WHO
from pq_daemon.server.problems import problem_list
from pq_daemon.server.routing import get, post

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.server.controls import Reloaded


async def show(request: web.Request) -> web.Response:
    """Answer with the tables of config.toml as they are in force, and the last reload."""
    controls = request.app[CONTROLS]
    last = controls.last_reload
    reloaded = None if last is None else _reloaded(last)
    return json_answer({**masked(controls.settings), "last_reload": reloaded})


async def reload(request: web.Request) -> web.Response:
    """Have the configuration read again: 200 with what changed, 422 with everything wrong."""
    await json_object(request, ())
    controls, actor = request.app[CONTROLS], request[WHO].actor
    done = await controls.reload(actor)
    detail = {"changed": done.changed, "restart": done.restart, "problems": len(done.problems)}
    await request.app[STORE].audit(actor, "config.reload", detail=detail)
    if done.problems:
        raise ConfigurationError(controls.settings.source, done.problems)
    return json_answer(_reloaded(done))


def _reloaded(done: Reloaded) -> dict[str, Any]:
    found: dict[str, Any] = {
        "at": values.time(done.at),
        "changed": list(done.changed),
        "restart": list(done.restart),
    }
    if done.problems:
        found["errors"] = problem_list(ConfigurationError(None, done.problems))
    return found


ROUTES: Final = (get("/config", show), post("/reload", reload, "manager"))
