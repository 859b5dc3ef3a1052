"""pq service on a machine: installed as the README says, opened for folders, removed again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.systemd.service import CONFIG, DROP_INS, HASHING, PQ, Service

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(180)]

README: Final = Path(__file__).resolve().parents[2] / "README.md"
UNIT: Final = "etc/systemd/system/pq.service"
WRITTEN: Final = (UNIT, "etc/sysusers.d/pq.conf", "etc/tmpfiles.d/pq.conf")
NAME: Final = "scans: 100%\\x41 $HOME;"
QUOTED: Final = f'"{NAME}"'
"""Names with everything in them that means something to systemd."""


def watch(name: str, path: str) -> str:
    """A watch that does not look for itself within a test: what it finds it was told of."""
    return f"""
[[watch]]
name = "{name}"
path = '{path}'
queue = "copy"
settle = "100ms"
rescan = "1h"
on_success = "move:done"
"""


COPY: Final = """
[queue.copy]
command = ["cp", "--", "{path}", "{output}"]
output = "{parent}/out/{name}"
max_attempts = 1
"""


@pytest.fixture
def bare(service: Service) -> Service:
    """The machine before anything was installed; only the program is there."""
    service.machine.shell(
        f"""
        rm -rf /{" /".join(WRITTEN)} /{DROP_INS} /etc/pq
        systemctl daemon-reload
        """
    )
    return service


def test_it_is_installed_as_the_readme_says(bare: Service) -> None:
    section = README.read_text("utf-8").partition("\n## Run it as a service\n")[2]
    section = section.partition("\n## ")[0]
    scripts = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    [config] = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    # these two need a network, and were done for the whole machine
    assert re.search(r"venv /opt/pq\n/opt/pq/bin/pip install \.\n", scripts[0])
    bare.machine.shell(scripts[0].partition("pip install .\n")[2])
    bare.machine.shell(scripts[1])
    (bare.root / CONFIG[1:]).write_text(config)
    bare.machine.shell(scripts[2])

    assert bare.shown("ActiveState") == "active"
    assert bare.systemctl("is-enabled", "pq").stdout == "enabled\n"
    assert "systemctl restart pq" in bare.pq("service", "install").stdout, "for a new unit"
    bare.drop("a.txt", "a", user="partner")
    bare.job_of("a.txt")


def test_what_the_service_could_not_run_is_not_installed(bare: Service) -> None:
    bare.machine.shell(
        """
        install -d -m 0700 /opt/closed
        for place in /opt/closed /home/anna; do ln -sfn /opt/pq $place/pq; done
        """
    )
    for place, why in (
        ("/opt/closed", "/opt/closed is closed to others (mode 0700)"),
        ("/home/anna", "it lies below /home, which the unit hides"),
    ):
        python = f"{place}/pq/bin/python"
        refused = bare.machine.run(python, "-m", "pq_daemon", "service", "install", check=False)
        assert refused.returncode == 1
        assert f"could not run {place}/pq/bin/pq: {why}" in refused.stderr
    assert not (bare.root / UNIT).exists()


def test_install_says_what_is_missing(bare: Service) -> None:
    said = bare.pq("service", "install").stdout
    assert "missing  /etc/pq/config.toml" in said
    assert (bare.root / "etc/pq").stat().st_mode & 0o7777 == 0o750

    config = bare.root / CONFIG[1:]
    config.write_text(HASHING + watch("scans", "/home/anna/scans") + COPY)
    config.chmod(0o600)
    said = bare.pq("service", "install").stdout
    assert "the user pq cannot read it" in said
    assert "state_dir = /etc/pq/data/state: the service cannot write there" in said
    assert "pq service allow /home/anna/scans" in said
    assert "watch in:" not in said

    config.write_text("[daemon]\nstate = 1\n")
    assert "it has mistakes" in bare.pq("service", "install").stdout


def test_folders_in_homes_and_elsewhere_are_opened(service: Service, machine: Machine) -> None:
    folders = ["/home/anna/scans", f"/home/anna/{NAME}", f"/data/{QUOTED}", "/var/tmp/drop"]  # noqa: S108
    service.configure(*(watch(f"w{n}", each) for n, each in enumerate(folders)), COPY)
    machine.shell("chmod 0700 /home/anna; install -o anna /dev/null /home/anna/letter")
    for each in folders:
        service.owned(each, "anna", "pq", 0o2770)
        said = service.pq("service", "allow", each).stdout
        assert "systemctl restart pq" in said
        assert "missing" not in said
    service.start()
    assert {each["status"] for each in service.api.get("/api/v1/watches").body["items"]} == {"ok"}
    for number, each in enumerate(folders):
        service.drop(f"{number}.txt", "a", user="anna", into=each)
        service.job_of(f"{number}.txt")
        assert (service.root / each[1:] / "done" / f"{number}.txt").exists()
        assert (service.root / each[1:] / "out" / f"{number}.txt").read_text() == "a"

    seen = service.root / f"proc/{service.shown('MainPID')}/root/home/anna"
    assert {each.name for each in seen.iterdir()} == {"scans", NAME}, "and no letter"


def test_allow_says_what_it_cannot_give(service: Service, machine: Machine) -> None:
    machine.shell("install -d -o anna -m 0700 /home/anna/own; ln -s own /home/anna/link")
    said = service.pq("service", "allow", "/home/anna/link").stdout
    assert "/home/anna/link leads to /home/anna/own" in said
    assert "setfacl -m u:pq:rwX /home/anna/own" in said
    assert "open to the service already" in service.pq("service", "allow", "/srv/in").stdout
    for path, complaint in (
        ("/nowhere", "no directory /nowhere"),
        ("/", "the whole machine"),
    ):
        refused = service.pq("service", "allow", path, check=False)
        assert refused.returncode == 1
        assert complaint in refused.stderr


def test_what_needs_root_says_so(service: Service) -> None:
    for words in (("install",), ("uninstall",), ("allow", "/srv")):
        refused = service.machine.run(PQ, "service", *words, user="partner", check=False)
        assert refused.returncode == 1
        assert f"this needs root: sudo {PQ} service {words[0]}" in refused.stderr
    shown = service.machine.run(PQ, "service", "show", user="partner").stdout
    assert "(installed)" in shown
    assert "RestartSec=100ms" in shown, "the drop-in, too"


def test_uninstall_removes_what_install_wrote(service: Service) -> None:
    service.configure(HASHING)
    service.systemctl("enable", "--now", "pq")
    said = service.pq("service", "uninstall").stdout
    for each in WRITTEN:
        assert f"removed  /{each}" in said
        assert not (service.root / each).exists()
    for kept in (CONFIG, "/var/lib/pq", f"/{DROP_INS}/test.conf"):
        assert f"kept     {kept}" in said
        assert (service.root / kept[1:]).exists()
    assert service.systemctl("is-active", "pq", check=False).stdout == "inactive\n"
    assert not list((service.root / "etc/systemd/system").glob("*.wants/pq.service"))
    assert service.pq("service", "uninstall").returncode == 0, "once more"
