"""/watches/{name}/files/process: a file that had its job has another one, because a person asks."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import InputGoneError, InvalidRequestError, NotFoundError
from pq_daemon.jobs.model import FileVersion, QueueName, WatchName
from pq_daemon.jobs.versions import Identity
from pq_daemon.runtime.filesystems import WITHOUT_INODES, filesystem
from pq_daemon.runtime.names import is_text, shown
from pq_daemon.server import values
from pq_daemon.server.answers import json_answer
from pq_daemon.server.bodies import json_object
from pq_daemon.server.keys import CONTROLS, STORE, WHO
from pq_daemon.server.resources.watches import known
from pq_daemon.server.routing import API, post
from pq_daemon.store.protocol import Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from pq_daemon.config import Settings


async def process(request: web.Request) -> web.Response:
    """Accept a file's version once more: 201. One that had no job yet becomes one by itself."""
    body = await json_object(request, {"relpath", "relpath_b64"})
    relpath, record = _relpath(body), await known(request)
    wanted = _submission(record.name, request.app[CONTROLS].settings)
    file = await asyncio.to_thread(there, record.name, record.root, relpath)
    job = await request.app[STORE].again(wanted, file, request[WHO].actor)
    address = {"Location": f"{API}/jobs/{job.id}"}
    return json_answer(values.job(job), status=201, headers=address)


def _relpath(body: Mapping[str, Any]) -> bytes:
    text, coded = body.get("relpath"), body.get("relpath_b64")
    try:
        relpath = _bytes(text, coded)
    except (ValueError, binascii.Error):
        raise InvalidRequestError("relpath: a text is needed; relpath_b64 takes others") from None
    if not relpath or b"\0" in relpath or relpath.startswith(b"/"):
        raise InvalidRequestError("relpath: a path below the watch's folder is needed")
    return relpath


def _bytes(text: object, coded: object) -> bytes:
    if coded is not None:
        return base64.b64decode(str(coded), validate=True)
    if not isinstance(text, str) or not is_text(os.fsencode(text)):
        raise ValueError(text)
    return os.fsencode(text)


def _submission(name: WatchName, settings: Settings) -> Submission:
    for watch in settings.watches:
        if watch.name == name:
            queue = settings.queues[watch.queue]
            priority = watch.priority or queue.priority
            return Submission(QueueName(queue.name), priority, queue.max_attempts)
    raise NotFoundError(f'no watch "{name}"')


def there(watch: WatchName, root: bytes, relpath: bytes) -> FileVersion:
    """Look at a file as it lies in a watch now. Blocks.

    Raises:
        InvalidRequestError: it lies elsewhere, by `..` or a link, or is no regular file.
        InputGoneError: it is not there.

    """
    directory, name = os.path.split(root + b"/" + relpath)
    real = os.path.realpath(directory)
    if name in {b"", b".", b".."} or not (real + b"/").startswith(root + b"/"):
        raise InvalidRequestError(f"relpath: {shown(relpath)} does not lie in {shown(root)}")
    path = real + b"/" + name
    try:
        found = os.lstat(path)
    except OSError as error:
        raise InputGoneError(f"{shown(path)}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise InvalidRequestError(f"relpath: {shown(path)} is not a regular file")
    identity = Identity(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    inodes_count = filesystem(root) not in WITHOUT_INODES
    return FileVersion(watch, root, path[len(root) + 1 :], identity, inodes_count, None)


ROUTES: Final = (post("/watches/{name}/files/process", process, "operator"),)
