"""One installation and one machine for all tests here; a fresh service for each that asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.systemd.machine import Machine, why_not
from tests.systemd.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PLACE: Final = "/opt/pq"


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv made from /usr/bin/python3 with the locked packages and the wheel of this checkout.

    The Python that runs the tests may lie in somebody's home, where no service can reach it.
    """
    reason = why_not()
    if reason:
        pytest.skip(f"no machine with systemd can be booted here: {reason}")
    directory = tmp_path_factory.mktemp("installation")
    venv, wheels = directory / "venv", directory / "wheels"
    python = venv / "bin/python"
    own_pip = (sys.executable, "-m", "pip", "--quiet")
    pip = (*own_pip, "--python", python, "install")
    for line in (
        ("/usr/bin/python3", "-m", "venv", "--without-pip", venv),
        (*pip, "--require-hashes", "-r", REPOSITORY / "requirements.lock"),
        (*own_pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, REPOSITORY),
    ):
        _run(*line)
    _run(*pip, "--no-deps", *wheels.glob("*.whl"))
    for script in (venv / "bin").iterdir():
        _move(script, venv)
    return venv


def _run(*words: object) -> None:
    done = subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def _move(script: Path, venv: Path) -> None:
    """Let a script of the venv find its Python where the machine will see it."""
    if script.is_symlink():
        return
    content = script.read_bytes()
    script.write_bytes(content.replace(b"#!" + bytes(venv), b"#!" + PLACE.encode(), 1))


@pytest.fixture(scope="session")
def machine(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with pq installed; partner and anna are its users, both in the group pq."""
    with Machine(tmp_path_factory.mktemp("systemd"), {installation: PLACE}) as machine:
        machine.shell(
            f"""
            {PLACE}/bin/pq service install
            useradd --no-create-home --groups pq partner
            useradd --create-home --groups pq anna
            """
        )
        yield machine


@pytest.fixture
def service(machine: Machine) -> Service:
    return Service(machine)
