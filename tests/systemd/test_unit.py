"""The unit as a file: systemd has nothing to say about it, and little is left open."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.systemd.service import Service

UNIT = Path(__file__).resolve().parents[2] / "systemd/pq.service"
MOST = 1.8
"""Of systemd's exposure, where 0 is a program that can do nothing and 10 is root without limits."""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_little_is_exposed() -> None:
    answer = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT],
        check=True,
        capture_output=True,
        text=True,
    )
    said = re.search(r"Overall exposure level for pq.service: ([0-9.]+)", answer.stdout)
    assert said is not None, answer.stdout
    print(said[0])
    assert float(said[1]) <= MOST
    assert answer.stderr == ""


@pytest.mark.daemon
@pytest.mark.timeout(180)
def test_systemd_understands_every_line(service: Service) -> None:
    """Also of the drop-ins. It exits 0 for a key it does not know: what it says is what counts."""
    service.machine.shell("mkdir -p '/data/a \"b\" 100%\\x41: c' /home/anna/in")
    service.pq("service", "allow", '/data/a "b" 100%\\x41: c')
    service.pq("service", "allow", "/home/anna/in")
    answer = service.machine.run("systemd-analyze", "verify", "--man=no", "pq.service")
    assert (answer.stdout, answer.stderr) == ("", "")
