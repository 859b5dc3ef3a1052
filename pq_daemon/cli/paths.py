"""A path on the command line, as the API takes it: absolute, and exact even if it is not UTF-8."""

from __future__ import annotations

import base64
import os

from pq_daemon.runtime.names import is_text


def submitted(path: str) -> dict[str, str]:
    """Return the fields of POST /jobs that name a file. Links are not followed."""
    whole = os.fsencode(os.path.abspath(path))  # noqa: PTH100 - Path would not tidy ".." away
    if is_text(whole):
        return {"path": whole.decode()}
    return {"path_b64": base64.b64encode(whole).decode("ascii")}
