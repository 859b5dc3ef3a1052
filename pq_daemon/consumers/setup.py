"""A configuration as the consumers use it: worked out once, frozen, kept by every attempt it began.

A reload makes a new one; what runs goes on with its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pq_daemon.config.env_files import EnvFileError, read_env_file
from pq_daemon.consumers.environment import base_environment
from pq_daemon.consumers.handlers.outcome import Codes
from pq_daemon.consumers.handlers.resolve import forget_modules, resolve
from pq_daemon.jobs.model import QueueName
from pq_daemon.jobs.retry import Backoff
from pq_daemon.runtime.systemd import OWN_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.config.settings import QueueSettings, Settings
    from pq_daemon.consumers.handlers.resolve import Function, Unresolved


@dataclass(frozen=True, slots=True)
class Plan:
    """What a consumer needs to know of one queue."""

    queue: QueueSettings
    backoff: Backoff
    codes: Codes
    umask: int
    function: Function | Unresolved | None  # of a python handler
    secrets: Mapping[bytes, bytes] = field(repr=False)  # of its env_file
    trouble: str = ""  # why no attempt can begin

    @property
    def is_command(self) -> bool:
        return self.queue.command is not None

    @property
    def is_http(self) -> bool:
        return self.queue.http is not None

    @property
    def has_process(self) -> bool:
        return not self.is_in_loop and not self.is_http

    @property
    def is_in_loop(self) -> bool:
        """Whether it runs in the daemon itself."""
        return self.queue.python is not None and self.queue.isolation == "loop"


@dataclass(frozen=True, slots=True)
class Setup:
    config: int
    size: int  # the number of slots
    limits: Mapping[QueueName, int]
    plans: Mapping[QueueName, Plan]
    settings: Settings = field(repr=False)
    directory: bytes  # where relative outputs begin
    environment: Mapping[bytes, bytes] = field(repr=False)  # what every command gets


def make_setup(settings: Settings, config: int) -> Setup:
    """Work a configuration out. Blocking: it imports the modules of Python handlers, fresh."""
    size = settings.daemon.slots
    forget_modules()
    return Setup(
        config=config,
        size=size,
        limits={
            QueueName(name): queue.concurrency or size for name, queue in settings.queues.items()
        },
        plans={QueueName(name): _plan(settings, queue) for name, queue in settings.queues.items()},
        settings=settings,
        directory=os.fsencode(settings.directory),
        environment=base_environment(os.environb, os.fsencode(settings.daemon.state_dir)),
    )


def _plan(settings: Settings, queue: QueueSettings) -> Plan:
    backoff = queue.backoff
    function = None
    if queue.python is not None and queue.isolation == "loop":
        function = resolve(queue.python, settings.directory, queue.python_path)
    secrets, trouble = _secrets(queue)
    return Plan(
        queue=queue,
        backoff=Backoff(backoff.base, backoff.factor, backoff.max, backoff.jitter),
        codes=Codes(
            frozenset(queue.success_codes),
            frozenset(queue.discard_codes),
            frozenset(queue.retry_codes),
        ),
        umask=int(queue.umask, 8),
        function=function,
        secrets=secrets,
        trouble=trouble,
    )


def _secrets(queue: QueueSettings) -> tuple[Mapping[bytes, bytes], str]:
    """Read the variables of the env_file; or say why not: it was readable when it was checked."""
    if queue.env_file is None:
        return {}, ""
    try:
        found = read_env_file(queue.env_file)
    except EnvFileError as error:
        return {}, f"env_file {queue.env_file} {error}"
    return {
        name.encode(): value.encode() for name, value in found.items() if name not in OWN_VARIABLES
    }, ""
