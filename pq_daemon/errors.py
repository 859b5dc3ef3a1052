"""The one hierarchy of errors: each says what was wanted and what was found.

Every door (CLI, API, page) turns these into its own form by `code`, never by parsing the text.
"""

from __future__ import annotations

from typing import ClassVar


class PqError(Exception):
    """Something that was asked for cannot be done. The message is written for a person."""

    code: ClassVar[str] = "error"


class NotFoundError(PqError):
    """No such job, queue, watch, attempt."""

    code = "not_found"


class ConflictError(PqError):
    """The thing is there, but its state forbids what was asked (HTTP 409)."""

    code = "conflict"


class InputGoneError(ConflictError):
    """The job's file is gone, so it cannot run again."""

    code = "input_gone"


class InvalidRequestError(PqError):
    """A value that was given is not among those allowed (HTTP 400)."""

    code = "invalid"


class StoreError(PqError):
    """The store could not say yes: closed, full, or failing (HTTP 503)."""

    code = "store_unavailable"


class StoreHeldError(StoreError):
    """Another daemon holds the state directory (exit status 75)."""

    code = "state_dir_held"

    def __init__(self, message: str, *, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid
