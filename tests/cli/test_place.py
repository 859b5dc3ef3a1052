"""Which daemon a command means, also while its configuration is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from pq_daemon.cli import main, parsing, place

GOOD = '[daemon]\nstate_dir = "here"\nlog_file = "logs/pq.log"\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PQ_SOCKET", "PQ_CONFIG", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def socket_of(*line: str) -> str:
    return str(place.socket(parsing.parse([*line, "jobs"])))


def test_the_configurations_socket(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(GOOD)
    assert socket_of() == str(tmp_path / "here/pq.sock")


def test_a_named_configuration_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another daemon must not be asked instead."""
    (tmp_path / "config.toml").write_text(GOOD)
    assert main(["--config", "confg.toml", "jobs"]) == 78
    assert "there is no such file" in capsys.readouterr().err


def test_without_any_configuration() -> None:
    if not Path("/etc/pq/config.toml").exists():
        assert socket_of() == "/run/pq/pq.sock"


def test_another_configuration(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "pq.toml").write_text(GOOD)
    assert socket_of("--config", "other/pq.toml") == str(other / "here/pq.sock")


def test_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text(GOOD)
    monkeypatch.setenv("PQ_SOCKET", "/run/other/pq.sock")
    assert socket_of() == "/run/other/pq.sock"


@pytest.mark.parametrize(
    "broken",
    [
        GOOD + "[daemon\n",
        GOOD + "workers = \n",
        GOOD + '[[watch]]\nname = "a"\npath = """\n',
        GOOD + "[queue.a]\nnonsense = 1\n",
        GOOD + "[daemon]\n",
        '# \xe4\n[queue.a]\ncommand = [\n"x",\n' + GOOD,
        "daemon.workers = -1\n" + GOOD,
    ],
)
def test_a_broken_configuration_still_tells_where_its_daemon_is(
    broken: str, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(broken)
    assert socket_of() == str(tmp_path / "here/pq.sock")
    salvaged = place.readable(parsing.parse(["logs"]))
    assert salvaged is not None
    assert salvaged.daemon.log_file == tmp_path / "logs/pq.log"


def test_a_broken_configuration_with_a_socket_group(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(GOOD + '[server]\nsocket_group = "pq"\nlisten = 8501\n')
    assert socket_of() == "/run/pq/pq.sock"


def test_a_broken_configuration_without_a_state_dir(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[[[")
    assert socket_of() == str(tmp_path / "data/state/pq.sock")
