"""The files of pq service, written below a directory: none of this touches the machine."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

from pq_daemon.cli import main, unit
from pq_daemon.cli.service import _obstacle
from pq_daemon.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

UNIT = "etc/systemd/system/pq.service"
SHIPPED = Path(__file__).resolve().parents[2] / "systemd/pq.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def pq(root: Path) -> Callable[..., int]:
    def act(*words: str) -> int:
        return main(["service", *words, "--root", str(root)])

    return act


def files(root: Path) -> dict[str, str]:
    return {str(f.relative_to(root)): f.read_text() for f in root.rglob("*") if f.is_file()}


def test_install_writes_three_files_and_uninstall_removes_them(
    pq: Callable[..., int], root: Path
) -> None:
    (root / "etc").mkdir(parents=True)
    (root / "etc/fstab").write_text("not ours")
    assert pq("install") == 0
    assert set(files(root)) == {
        "etc/fstab",
        UNIT,
        "etc/sysusers.d/pq.conf",
        "etc/tmpfiles.d/pq.conf",
    }
    assert pq("allow", "/data") == 0
    assert pq("uninstall") == 0
    [drop_in] = set(files(root)) - {"etc/fstab"}
    assert drop_in.startswith(f"{UNIT}.d/allow-data-")


def test_the_unit_runs_this_installation(pq: Callable[..., int], root: Path) -> None:
    assert pq("install") == 0
    program = Path(sys.executable).with_name("pq")
    text = files(root)[UNIT]
    assert f"\nExecStart={program} --config /etc/pq/config.toml run\n" in text
    assert f"\nExecReload={program} --config /etc/pq/config.toml reload\n" in text
    rest = text.partition("\n")[2]
    assert rest.replace(f"={program} ", "=/opt/pq/bin/pq ") == SHIPPED.read_text()


def test_another_configuration_and_its_time_to_stop(pq: Callable[..., int], root: Path) -> None:
    (root / "srv").mkdir(parents=True)
    (root / "srv/pq.toml").write_text(
        '[daemon]\ndrain_timeout = "5m"\n[queue.q]\ncommand = ["true"]\nkill_grace = "1m"\n'
    )
    assert pq("install", "--config", "/srv/pq.toml") == 0
    text = files(root)[UNIT]
    assert "pq --config /srv/pq.toml run\n" in text
    assert "\nTimeoutStopSec=370\n" in text


@pytest.mark.parametrize("act", ["install", "uninstall"])
def test_an_edited_file_is_left_alone_and_so_is_the_rest(
    act: str, pq: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pq("install") == 0
    (root / "etc/tmpfiles.d/pq.conf").write_text("d /etc/pq 0777 root root -\n")
    before = files(root)
    assert pq(act) == 1
    assert "/etc/tmpfiles.d/pq.conf was edited" in capsys.readouterr().err
    assert files(root) == before


def test_files_of_another_version_are_brought_up_to_date(
    pq: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pq("install") == 0
    text = files(root)[UNIT]
    older = text.partition("\n")[2].replace("WatchdogSec=30", "WatchdogSec=60")
    (root / UNIT).write_text(unit.signed(older))
    capsys.readouterr()
    assert pq("show") == 0
    assert "(installed is another one)" in capsys.readouterr().out
    assert pq("install") == 0
    said = capsys.readouterr().out
    assert f"written  /{UNIT}" in said
    assert "as it is /etc/sysusers.d/pq.conf" in said
    assert files(root)[UNIT] == text


def test_a_unit_copied_from_the_package_by_hand_counts_as_ours(
    pq: Callable[..., int], root: Path
) -> None:
    place = root / "etc/sysusers.d/pq.conf"
    place.parent.mkdir(parents=True)
    place.write_text(SHIPPED.with_name("pq.sysusers.conf").read_text())
    assert pq("install") == 0
    assert unit.is_as_written(place.read_text())


def test_show_prints_the_unit_and_the_drop_ins(
    pq: Callable[..., int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pq("show") == 0
    assert f"# /{UNIT} (not installed)" in capsys.readouterr().out
    assert pq("install") == 0
    assert pq("allow", "/data") == 0
    (root / f"{UNIT}.d/own.conf").write_text("[Service]\nNice=5\n")
    capsys.readouterr()
    assert pq("show") == 0
    said = capsys.readouterr().out
    assert f"# /{UNIT} (installed)" in said
    assert 'ReadWritePaths="-/data"' in said
    assert said.endswith("own.conf\n[Service]\nNice=5\n")


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/data/in", ['ReadWritePaths="-/data/in"']),
        ("/mnt/a b%\\", ['ReadWritePaths="-/mnt/a b%%\\\\"']),
        ("/home/anna/in", ["ProtectHome=tmpfs", 'BindPaths="-/home/anna/in"']),
        ("/root/in", ["ProtectHome=tmpfs", 'BindPaths="-/root/in"']),
        ("/tmp/in", ['BindPaths="-/tmp/in"']),  # noqa: S108 - a path in a text
        ("/homes/in", ['ReadWritePaths="-/homes/in"']),
    ],
)
def test_a_drop_in_opens_one_directory(path: str, lines: list[str]) -> None:
    text = unit.drop_in(PurePosixPath(path))
    assert [line for line in text.splitlines()[1:] if not line.startswith("#")] == lines


@pytest.mark.parametrize(
    "path", ["/", "/data/two\nlines", "/data/\udcff", "/data/\x1b[2J", "/home/a's", '/home/"a"']
)
def test_some_directories_cannot_be_opened(path: str) -> None:
    with pytest.raises(InvalidRequestError):
        unit.drop_in(PurePosixPath(path))


def test_two_directories_have_two_drop_ins() -> None:
    names = [unit.drop_in_place(PurePosixPath(path)) for path in ("/a/b", "/a-b", "/a b", "/a/ü")]
    assert len(set(names)) == 4


def test_what_the_service_cannot_reach_is_named() -> None:
    assert _obstacle(Path("/usr/bin/env")) is None
    assert _obstacle(Path("/usr/bin/no-such-program")) == "it is not there"
    assert _obstacle(Path("/home/anna/pq/bin/pq")) == "it lies below /home, which the unit hides"


@pytest.mark.parametrize("words", [["install", "/srv"], ["allow"], ["start"]])
def test_wrong_words_are_usage_errors(words: list[str]) -> None:
    assert main(["service", *words]) == 2
