"""Renders a page: its template, with what every page shows around it."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any, Final

import aiohttp_jinja2
import jinja2

from pq_daemon.jobs.states import State
from pq_daemon.server.identity import Asker
from pq_daemon.server.keys import ASSETS, CONTROLS, PASSWORDS, STORE, WHO
from pq_daemon.server.pages.showing import FILTERS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aiohttp import web

SYMBOL: Final = re.compile(r'id="i-([a-z_]+)"')
HOST: Final = socket.gethostname()


def set_up(app: web.Application, templates: Path) -> None:
    """Give the application its templates; everything they show is escaped."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        filters=FILTERS,
        default_helpers=False,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    sprite = (templates / "parts" / "icons.html").read_text("utf-8")
    environment.globals["icons"] = frozenset(SYMBOL.findall(sprite))
    environment.globals["states"] = list(State)
    environment.globals["host"] = HOST


def render(
    request: web.Request, template: str, context: Mapping[str, Any], *, status: int = 200
) -> web.Response:
    """Render a page. Waits for nothing, so that an error's page cannot fail on its way."""
    around = {
        "asset": request.app[ASSETS].address,
        "asker": request.get(WHO, Asker()),
        "now": request.app[STORE].now(),
        "path": request.path_qs,
        "epoch": request.app[STORE].feed.epoch,
        "instance": request.app[CONTROLS].settings.daemon.node,
        "banners": None,
    }
    return aiohttp_jinja2.render_template(template, request, {**around, **context}, status=status)


async def banners(request: web.Request) -> dict[str, Any]:
    """Return what every signed-in page warns of: a refused reload, the demo's password."""
    controls = request.app[CONTROLS]
    last = controls.last_reload
    return {
        "demo_users": await request.app[PASSWORDS].demo_users(controls.settings),
        "problems": last.problems if last is not None else (),
        "problems_at": last.at if last is not None else None,
        "source": controls.settings.source,
        "phase": controls.phase,
    }
