"""Finds the directories that travel with the package: `web` and `systemd`.

In a wheel they lie inside the package; in a checkout (an editable install) beside it. Found through
`__file__`, because importlib.resources does not see the second place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).resolve().parent.parent


def asset_dir(name: str) -> Path:
    """Return the directory of that name.

    Raises:
        FileNotFoundError: the installation is not whole.

    """
    for place in (PACKAGE / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f'no directory "{name}" in {PACKAGE} or beside it: reinstall pq-daemon')
