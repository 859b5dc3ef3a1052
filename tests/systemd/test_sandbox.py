"""What handlers can do inside the unit, and what they cannot although their rights would do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

from tests.systemd.service import Service

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(180)]

QUEUE: Final = """
[queue.any]
command = ["python3", "-c", '''
import json, os
words = json.loads(os.environ["PQ_PAYLOAD"])
os.execvp(words[0], words)
''']
max_attempts = 1
"""
"""Runs the payload."""

GIT: Final = "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"
CALLBACK: Final = "import ctypes; ctypes.CFUNCTYPE(None)(lambda: None)()"
CAN: Final = {
    "node": ["node", "-e", "console.log([1, 2].map(x => x * 21)[1])"],
    "git": ["sh", "-c", f"{GIT} && git log --oneline && git --version"],
    "callbacks": ["python3", "-c", CALLBACK],
    "copy trees": ["sh", "-ec", "cp -a /etc/systemd c; tar -cf t c; mkdir e; tar -xf t -C e"],
    "write below srv": ["sh", "-ec", "cd /srv/out; echo x >x; mkdir y; mv x y"],
    "be nice": ["nice", "-n", "5", "ionice", "-c", "3", "true"],
    "see memory": ["grep", "MemTotal", "/proc/meminfo"],
    "use temporary files": ["sh", "-ec", "echo x >x; echo x >$TMPDIR/y; echo x >/tmp/z"],
}  # fmt: skip
CANNOT: Final = {
    "write etc": ["sh", "-c", "echo x >/etc/open/x"],
    "write usr": ["sh", "-c", "echo x >/usr/local/open/x"],
    "write var": ["sh", "-c", "echo x >/var/open/x"],
    "list a home": ["ls", "/home/anna"],
    "read a home": ["cat", "/home/anna/letter"],
    "list the home of root": ["ls", "/root"],
    "read temporary files of others": ["cat", "/tmp/theirs"],  # noqa: S108 - that is the point
    "see processes of others": ["ls", "/proc/1"],
    "make namespaces": ["unshare", "--user", "true"],
    "make setuid files": ["sh", "-c", "cp /bin/true t && chmod u+s t"],
}


@pytest.fixture(scope="module")
def sandbox(machine: Machine) -> Service:
    """The service as it is installed, on a machine whose files are open to everybody."""
    service = Service(machine)
    machine.shell(
        """
        install -d -m 0777 /etc/open /usr/local/open /var/open
        install -d -m 2775 -g pq /srv/out
        chmod 0755 /home/anna /root
        echo dear >/home/anna/letter
        echo theirs >/tmp/theirs
        """
    )
    service.configure(QUEUE)
    service.start()
    return service


def ended(sandbox: Service, words: list[str]) -> tuple[str, str]:
    """Run a command as a handler; return the state it came to, and what it printed."""
    body = {"queue": "any", "payload": words}
    job = sandbox.api.post("/api/v1/jobs", body).body["id"]
    sandbox.finished(job)
    return sandbox.api.job(job)["state"], sandbox.printed(job)


@pytest.mark.parametrize("what", CAN)
def test_handlers_can(what: str, sandbox: Service) -> None:
    program = what if what in {"node", "git"} else CAN[what][0]
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    state, printed = ended(sandbox, CAN[what])
    assert state == "succeeded", printed


@pytest.mark.parametrize("what", CANNOT)
def test_handlers_cannot(what: str, sandbox: Service) -> None:
    as_pq = ("sh", "-c", 'cd /tmp && exec "$@"', "sh", *CANNOT[what])
    outside = sandbox.machine.run(*as_pq, user="pq", check=False)
    if what == "make namespaces" and outside.returncode:
        pytest.skip("here nobody can")
    assert outside.returncode == 0, f"the rights would do: {outside.stderr}"
    state, printed = ended(sandbox, CANNOT[what])
    assert state == "failed", printed
