"""What the browser is given from web/static: read once, at addresses that name its content's hash.

`/static/<hash of everything>/app.js` never changes, so browsers may keep it for ever, and modules
import each other by relative names within one version; a new version of the daemon has new
addresses. Nothing is read from the disk while serving: there is no path to escape from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pq_daemon.server.keys import ASSETS
from pq_daemon.server.problems import Problem
from pq_daemon.server.routing import Route

if TYPE_CHECKING:
    from pathlib import Path

TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    body: bytes
    content_type: str


class Assets:
    """The files of one directory, by name."""

    def __init__(self, directory: Path) -> None:
        self._assets = {
            path.name: Asset(path.read_bytes(), TYPES[path.suffix])
            for path in sorted(directory.iterdir())
            if path.suffix in TYPES
        }
        digest = hashlib.sha256()
        for name, asset in self._assets.items():
            digest.update(f"{name} {len(asset.body)}\n".encode() + asset.body)
        self.version = digest.hexdigest()[:16]

    def get(self, name: str) -> Asset | None:
        return self._assets.get(name)

    def address(self, name: str) -> str:
        """Return the address of an asset as pages link it.

        Raises:
            KeyError: there is no such asset.

        """
        if name not in self._assets:
            raise KeyError(name)
        return f"/static/{self.version}/{name}"


async def asset(request: web.Request) -> web.Response:
    assets = request.app[ASSETS]
    found = assets.get(request.match_info["name"])
    if found is None:
        raise Problem(404, "not_found", "there is no such file")
    fresh = request.match_info["version"] == assets.version
    return web.Response(
        body=found.body,
        content_type=found.content_type,
        charset="utf-8",
        headers={"Cache-Control": FOR_EVER if fresh else "no-cache"},
    )


ROUTES: Final = (Route("GET", "/static/{version}/{name}", asset, "nobody", None),)
