"""What config.toml may say: one frozen model a table, the defaults beside the names.

A field's metadata tells what a reload may do with it: RESTART keys only change with a restart,
LATER keys are reserved words that are refused as "not yet available" unless they say the default.
Paths of a loaded file are absolute: its relative ones start at the file's directory. The rules that
hold between fields and tables are in checking.py and directories.py.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from pq_daemon.config.values import (
    Duration,
    FailureAction,
    HttpTarget,
    Interpreter,
    Listen,
    Location,
    OptionalLocation,
    OptionalSize,
    PositiveDuration,
    PythonTarget,
    Size,
    SuccessAction,
    UserName,
    Words,
)
from pq_daemon.jobs.order import Priority


class Mark(Enum):
    """A note on a field, read by loading and reload."""

    RESTART = "restart"
    LATER = "later"


RESTART: Final = Mark.RESTART
LATER: Final = Mark.LATER

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
COMMAND_WORDS: Final = 'a list of arguments, such as ["sha256sum", "--", "{path}"]'
NAME_WORDS: Final = "1 to 64 letters, digits, '-', '_' or '.', a letter or digit first"

Handler = Literal["command", "python", "http"]
Role = Literal["viewer", "operator", "manager"]


class Table(BaseModel):
    """A table of config.toml: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DaemonSettings(Table):
    state_dir: Annotated[Location, RESTART] = Path("data/state")
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    drain_timeout: Duration = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    log_file: OptionalLocation = None
    submit_roots: tuple[Location, ...] = ()
    node: Annotated[str, LATER] = ""

    @property
    def slots(self) -> int:
        """The size of the bounded pool."""
        return max(4, os.cpu_count() or 1) if self.workers == "auto" else self.workers


class RetentionSettings(Table):
    succeeded: Duration = 7 * 86400.0
    cancelled: Duration = 7 * 86400.0
    failed: Duration = 30 * 86400.0
    audit: Duration = 400 * 86400.0
    output_total: Size = 2 * 2**30


class StoreSettings(Table):
    url: Annotated[str, RESTART] = "sqlite"
    synchronous: Annotated[Literal["full", "normal"], RESTART] = "full"
    retention: RetentionSettings = RetentionSettings()


class ServerSettings(Table):
    listen: Annotated[Listen, RESTART] = "127.0.0.1:8501"
    tls_cert: Annotated[OptionalLocation, LATER] = None
    tls_key: Annotated[OptionalLocation, LATER] = None
    behind_proxy: Annotated[bool, LATER] = False
    public_url: Annotated[str, LATER] = ""
    trusted_proxies: Annotated[tuple[str, ...], LATER] = ()
    allowed_hosts: tuple[str, ...] = ()
    ops_public: Literal["off", "counts", "full"] = "off"
    socket_group: Annotated[str, RESTART] = ""
    metrics_public: Annotated[bool, LATER] = False


class UserSettings(Table):
    name: Annotated[UserName, Field(min_length=1, max_length=64)]
    role: Role = "viewer"
    password_hash: Annotated[
        str,
        Field(pattern=r"^\$argon2id\$"),
        Words('what "pq passwd NAME" writes: an argon2id hash, "$argon2id$..."'),
    ]


class WatchSettings(Table):
    name: Annotated[str, Field(pattern=NAME_PATTERN), Words(NAME_WORDS)]
    path: Location
    queue: str = ""  # loading fills in the watch's name
    include: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    exclude: tuple[str, ...] = ()
    builtin_excludes: bool = True
    recursive: bool = True
    settle: Literal["auto"] | PositiveDuration = "auto"
    marker: Annotated[str, Field(pattern=r"^[^/\x00]*$"), Words('an ending such as ".done"')] = ""
    min_size: Size = 1
    existing: Literal["run", "skip", "hold"] = "run"
    identify: Literal["content", "stat"] = "content"
    duplicates: Literal["run", "skip"] = "run"
    claim: Literal["in-place", "move"] = "in-place"
    on_success: SuccessAction = "keep"
    on_failure: FailureAction = "keep"
    rescan: PositiveDuration = 60.0
    priority: Priority | None = None  # the queue's, when left out


class BackoffSettings(Table):
    base: Duration = 15.0
    factor: Annotated[float, Field(ge=1, le=1000)] = 4.0
    max: Duration = 3600.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2


class QueueSettings(Table):
    name: str = ""  # loading fills in the table's name
    command: Annotated[tuple[str, ...], Field(min_length=1), Words(COMMAND_WORDS)] | None = None
    python: PythonTarget | None = None
    http: HttpTarget | None = None
    send: Literal["job", "file"] = "job"
    concurrency: Annotated[int, Field(ge=0, le=1024)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 5
    timeout: PositiveDuration = 1800.0
    kill_grace: Duration = 10.0
    backoff: BackoffSettings = BackoffSettings()
    priority: Priority = Priority.NORMAL
    paused: bool = False
    hold_new: bool = False
    success_codes: tuple[Annotated[int, Field(ge=0, le=255)], ...] = (0,)
    discard_codes: tuple[Annotated[int, Field(ge=0, le=255)], ...] = (65,)
    retry_codes: tuple[Annotated[int, Field(ge=0, le=255)], ...] = (75,)
    output: str = ""
    on_conflict: Literal["number", "fail", "replace"] = "number"
    output_limit: Size = 2**20
    memory_limit: OptionalSize = None
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    io: Literal["normal", "idle"] = "normal"
    umask: Annotated[
        str, Field(pattern=r"^0?[0-7]{3}$"), Words('an octal mask in quotes, such as "0022"')
    ] = "0022"
    env: dict[str, str] = Field(default_factory=dict)
    env_file: OptionalLocation = None
    cwd: OptionalLocation = None
    python_path: tuple[Location, ...] = ()
    interpreter: Interpreter = ""
    isolation: Literal["process", "loop"] = "process"

    @property
    def handler(self) -> Handler:
        if self.command is not None:
            return "command"
        return "python" if self.python is not None else "http"


class Settings(Table):
    """A whole configuration, and where it came from."""

    daemon: DaemonSettings = DaemonSettings()
    store: StoreSettings = StoreSettings()
    server: ServerSettings = ServerSettings()
    users: tuple[UserSettings, ...] = ()
    watches: tuple[WatchSettings, ...] = ()
    queues: dict[str, QueueSettings] = Field(default_factory=dict)
    source: Path | None = None
    text: str = ""  # as it was read; the store keeps it by content

    @property
    def directory(self) -> Path:
        """Where relative paths start, and Python handlers are looked for first."""
        return self.source.parent if self.source else Path.cwd()
