"""Commands: what they are given, what their ends mean, what is kept of what they say."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.states import Outcome, Reason, State
from pq_daemon.store.outputs import Stream, frames
from tests.consumers.shop import a_queue, a_shop, shell, written
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.jobs.model import Job

HOSTILE = [
    b"plain.txt",
    b"with space.txt",
    b"new\nline.txt",
    b"'quotes\" and `ticks`.txt",
    b"-rf",
    b"--help",
    b"$(touch pwned).txt",
    b";reboot;.txt",
    b"<script>alert(1)<script>.txt",
    b"{path}{name}{{.txt",
    b"%s%d\\n*?[a].txt",
    b"\xf0\x9f\x98\x80 \xe6\x97\xa5\xe6\x9c\xac.txt",
    b"latin1 \xe9\xff\xfe.bin",
    b"x" * 255,
    b"...",
    b".hidden",
    b"tab\tand\x01control\x7f",
]


# --- exit codes and signals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "state", "reason", "outcome"),
    [
        (0, State.SUCCEEDED, None, Outcome.SUCCEEDED),
        (7, State.SUCCEEDED, None, Outcome.SUCCEEDED),
        (1, State.FAILED, Reason.ATTEMPTS, Outcome.FAILED),
        (255, State.FAILED, Reason.ATTEMPTS, Outcome.FAILED),
        (65, State.FAILED, Reason.DISCARDED, Outcome.FAILED),
        (66, State.FAILED, Reason.DISCARDED, Outcome.FAILED),
    ],
)
async def test_an_exit_code_decides(
    tmp_path: Path, code: int, state: State, reason: Reason | None, outcome: Outcome
) -> None:
    queue = shell(f"exit {code}", success_codes=(0, 7), discard_codes=(65, 66), max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
    assert (job.state, job.reason) == (state, reason)
    assert (attempt.outcome, attempt.exit_code, attempt.signal) == (outcome, code, None)
    assert job.spent == (0 if state is State.SUCCEEDED else 1)


async def test_a_postponed_job_spends_nothing(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    script = f'echo x >> {counter}; [ "$(wc -l < {counter})" -ge 3 ] || exit 75'
    async with a_shop(tmp_path, shell(script, max_attempts=1)) as shop:
        job = await shop.run()
        attempts = await shop.attempts(job)
    assert (job.state, job.spent) == (State.SUCCEEDED, 0)
    assert [a.outcome for a in attempts] == ["postponed", "postponed", "succeeded"]
    assert [a.reason for a in attempts] == ["exit 75", "exit 75", None]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGUSR1", "SIGABRT"])
async def test_a_signal_is_a_failed_attempt_that_names_it(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    async with a_shop(tmp_path, shell(f"kill -{number.value} $$", max_attempts=1)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
    assert (attempt.exit_code, attempt.signal) == (None, number)
    assert attempt.reason == f"killed by {name}"
    assert job.state is State.FAILED


async def test_the_error_carries_the_last_line_of_stderr(tmp_path: Path) -> None:
    script = "echo fine; echo first >&2; printf 'no such \\033[31mthing\\n\\n' >&2; exit 3"
    async with a_shop(tmp_path, shell(script, max_attempts=1)) as shop:
        job = await shop.run()
    assert job.error == "exit 3: no such \\x1b[31mthing"


async def test_failures_are_tried_again_after_the_backoff(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("exit 9", max_attempts=3)) as shop:
        job = await shop.run()
        attempts = await shop.attempts(job)
    assert (job.state, job.reason, job.spent) == (State.FAILED, Reason.ATTEMPTS, 3)
    assert [a.number for a in attempts] == [1, 2, 3]
    starts = [a.started_at for a in attempts]
    assert all(later - earlier >= 10 for earlier, later in pairwise(starts))


# --- programs that cannot be started -------------------------------------------------------------


def a_script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


async def error_of(tmp_path: Path, *command: str, **changes: object) -> Job:
    async with a_shop(tmp_path, a_queue(*command, max_attempts=1, **changes)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
    assert (attempt.outcome, attempt.exit_code, attempt.signal) == (Outcome.FAILED, None, None)
    assert (job.state, attempt.reason) == (State.FAILED, "not started")
    return job


async def test_a_missing_program(tmp_path: Path) -> None:
    job = await error_of(tmp_path, "/no/such/program")
    assert job.error == "/no/such/program: no such program"


async def test_a_missing_program_that_is_looked_for_in_path(tmp_path: Path) -> None:
    job = await error_of(tmp_path, "no-such-program-anywhere")
    assert job.error == "no-such-program-anywhere: no such program"


async def test_a_bad_shebang(tmp_path: Path) -> None:
    script = a_script(tmp_path / "tool", "#!/no/such/interpreter\n")
    job = await error_of(tmp_path, script)
    assert job.error == f"{script}: its interpreter (the #! line) is missing"


async def test_a_program_that_is_not_executable(tmp_path: Path) -> None:
    script = a_script(tmp_path / "tool", "#!/bin/sh\n", 0o644)
    job = await error_of(tmp_path, script)
    assert job.error == f"{script}: not executable"


async def test_a_program_without_a_shebang(tmp_path: Path) -> None:
    script = a_script(tmp_path / "tool", "echo hello\n")
    job = await error_of(tmp_path, script)
    assert job.error == f"{script}: not a program (no #! line?)"


async def test_a_missing_cwd(tmp_path: Path) -> None:
    job = await error_of(tmp_path, "/bin/true", cwd=tmp_path / "nowhere")
    assert job.error == f"cannot enter cwd {tmp_path / 'nowhere'}: No such file or directory"


async def test_arguments_that_are_too_long(tmp_path: Path) -> None:
    job = await error_of(tmp_path, "/bin/true", "x" * 200_000)
    assert job.error == "/bin/true: arguments and environment are too long"


async def test_a_placeholder_without_a_value(tmp_path: Path) -> None:
    async with a_shop(tmp_path, a_queue("cat", "{path}", max_attempts=1)) as shop:
        job = await shop.run()
    assert job.error == "{path} has no value here"


# --- what a command is given ---------------------------------------------------------------------

SHOW = """
import json, os, sys
print(json.dumps([a.encode("utf-8", "surrogateescape").hex() for a in sys.argv[1:]]))
print(json.dumps({k.decode(): v.hex() for k, v in os.environb.items()}))
print(json.dumps([os.getcwd(), sorted(os.listdir(".")), os.getsid(0) == os.getpid(),
                  os.getpgid(0) == os.getpid(), os.readlink("/proc/self/fd/0"),
                  sorted(os.listdir("/proc/self/fd")), oct(os.umask(0))]))
""".strip()


def shown(output: bytes) -> tuple[list[bytes], dict[str, bytes], list[object]]:
    arguments, environment, rest = map(json.loads, output.decode().splitlines())
    return (
        [bytes.fromhex(text) for text in arguments],
        {name: bytes.fromhex(text) for name, text in environment.items()},
        rest,
    )


def shower(*arguments: str, **changes: object) -> object:
    source = SHOW.replace("{", "{{").replace("}", "}}")
    return a_queue(sys.executable, "-c", source, *arguments, **changes)


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:24])
async def test_hostile_names_arrive_byte_for_byte(tmp_path: Path, name: bytes) -> None:
    folder = os.fsencode(tmp_path / "in" / "sub dir")
    path = written(folder + b"/" + name, b"content")
    templates = ["{path}", "{name}", "a{stem}b", "{suffix}", "{parent}", "{relpath}", "{relparent}",
                 "{job_id}", "{attempt}", "{{}}", "{name}{name}"]  # fmt: skip
    digest = hashlib.sha256(b"content").digest()
    async with a_shop(tmp_path, shower(*templates, env={"MINE": "<{name}>"})) as shop:  # type: ignore[arg-type]
        root = os.fsencode(tmp_path / "in")
        job = await shop.submit_file(path, root=root, relpath=b"sub dir/" + name, sha256=digest)
        job = await shop.ended(job)
        arguments, environment, _ = shown(await shop.stdout(job))
    assert job.state is State.SUCCEEDED
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    assert arguments == [
        path, name, b"a" + stem + b"b", suffix, folder, b"sub dir/" + name, b"sub dir",
        b"%d" % job.id, b"1", b"{}", name + name,
    ]  # fmt: skip
    assert environment["MINE"] == b"<" + name + b">"
    assert environment["PQ_PATH"] == path
    assert environment["PQ_NAME"] == name
    assert environment["PQ_RELPATH"] == b"sub dir/" + name
    assert environment["PQ_SHA256"] == digest.hex().encode()


async def test_the_environment_is_a_list_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "SECRET", "PYTHONPATH"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("TZ", "Europe/Vienna")
    monkeypatch.delenv("LANG", raising=False)
    queue = shower(env={"GREETING": "hello", "NOTIFY_SOCKET": "asked for", "PQ_RUN": "99"})
    async with a_shop(tmp_path, queue) as shop:  # type: ignore[arg-type]
        job = await shop.run(payload='{"a": "\\u00e9"}')
        _, environment, rest = shown(await shop.stdout(job))
        token = shop.store.epoch.token
    scratch = str(tmp_path / "state" / "scratch" / "slot-1")
    ours = {
        "PQ_JOB_ID": b"%d" % job.id,
        "PQ_RUN": b"1",
        "PQ_ATTEMPT": b"1",
        "PQ_LAST_ATTEMPT": b"0",
        "PQ_QUEUE": b"files",
        "PQ_WATCH": b"",
        "PQ_PATH": b"",
        "PQ_NAME": b"",
        "PQ_RELPATH": b"",
        "PQ_SHA256": b"",
        "PQ_OUTPUT": b"",
        "PQ_PAYLOAD": b'{"a": "\\u00e9"}',
        "PQ_TOKEN": f"{token}.{job.id}.1".encode(),
        "TMPDIR": scratch.encode(),
        "HOME": str(tmp_path / "state").encode(),
        "LANG": b"C.UTF-8",
        "LC_TIME": b"C",
        "TZ": b"Europe/Vienna",
        "GREETING": b"hello",
    }
    passed = {"PATH", "USER", "LC_ALL", "LC_CTYPE"}  # Python itself may set LC_CTYPE
    assert {n: v for n, v in environment.items() if n not in passed} == ours
    cwd, entries, leads_session, leads_group, stdin, descriptors, umask = rest
    assert (cwd, entries) == (scratch, [])
    assert (leads_session, leads_group, stdin) == (True, True, "/dev/null")
    assert descriptors == ["0", "1", "2", "3"]  # 3 is the listing itself
    assert umask == "0o22"


async def test_the_last_attempt_is_told(tmp_path: Path) -> None:
    queue = shell("echo $PQ_ATTEMPT-$PQ_LAST_ATTEMPT; exit 1", max_attempts=2)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        assert await shop.stdout(job, 1) == b"1-0\n"
        assert await shop.stdout(job, 2) == b"2-1\n"


async def test_umask_and_cwd(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("touch made; pwd", umask="027", cwd=tmp_path)) as shop:
        job = await shop.run()
        assert await shop.stdout(job) == f"{tmp_path}\n".encode()
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640


async def test_every_attempt_finds_an_empty_scratch_directory(tmp_path: Path) -> None:
    script = 'ls -A; [ "$(stat -c %a .)" = 700 ] || exit 9; mkdir -p a/b; touch a/b/c .d; chmod 0 a'
    async with a_shop(tmp_path, shell(script), workers=1) as shop:
        for _ in range(3):
            job = await shop.run()
            assert (job.state, await shop.stdout(job)) == (State.SUCCEEDED, b"")
        assert os.listdir(tmp_path / "state" / "scratch" / "slot-1") == []  # noqa: PTH208
    assert os.listdir(tmp_path / "state" / "scratch") == []  # noqa: PTH208


# --- what it says --------------------------------------------------------------------------------


async def test_both_streams_are_kept_exactly(tmp_path: Path) -> None:
    blob = bytes(range(256)) * 8
    (tmp_path / "blob").write_bytes(blob)
    script = f"cat {tmp_path}/blob; cat {tmp_path}/blob {tmp_path}/blob >&2"
    async with a_shop(tmp_path, shell(script)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        assert await shop.stdout(job) == blob
        assert await shop.stderr(job) == blob * 2
    assert (attempt.output.stdout, attempt.output.stderr, attempt.output.cut) == (2048, 4096, 0)


async def test_a_small_output_moves_into_the_store_and_its_file_goes(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "output"
    async with a_shop(tmp_path, shell("echo small")) as shop:
        job = await shop.run()
        assert await shop.store.inline_output(job.id, 1) is not None
        await wait_until(lambda: not any(folder.iterdir()), what="an empty output directory")


async def test_a_larger_output_stays_in_a_private_file(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("head -c 5000 /dev/zero")) as shop:
        job = await shop.run()
        assert await shop.store.inline_output(job.id, 1) is None
        path = shop.store.outputs.head(job.id, 1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await shop.stdout(job) == bytes(5000)


async def test_the_output_can_be_read_while_it_grows(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    async with a_shop(tmp_path, shell(f"echo one; read x < {fifo}; echo two")) as shop:
        job = await shop.submit()
        await shop.says(job, b"one\n")
        fifo.write_text("go\n")
        job = await shop.ended(job)
        assert await shop.stdout(job) == b"one\ntwo\n"


async def test_one_byte_a_millisecond(tmp_path: Path) -> None:
    source = (
        "import os, time\nfor i in range(300):\n os.write(1, b'%d' % (i % 10))\n time.sleep(.001)"
    )
    async with a_shop(tmp_path, a_queue(sys.executable, "-c", source)) as shop:
        job = await shop.run()
        framed = await shop.framed(job)
        assert await shop.stdout(job) == (b"0123456789" * 30)
    assert len(list(frames(framed))) < 100  # little chunks are gathered


async def test_a_command_that_closes_its_stdout_runs_on(tmp_path: Path) -> None:
    script = f"exec >&- 2>&-; sleep 0.2; echo done > {tmp_path}/proof"
    async with a_shop(tmp_path, shell(script)) as shop:
        job = await shop.run()
    assert job.state is State.SUCCEEDED
    assert (tmp_path / "proof").read_text() == "done\n"


async def test_progress_and_result(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    script = (
        "echo '::progress 42.5 half way'; "
        f"read x < {fifo}; "
        "echo 'not ::progress 50'; echo '::result {\"pages\": [1, 2]}'; echo '::result {broken'; "
        "printf '::progress 100%% all'"
    )
    async with a_shop(tmp_path, shell(script)) as shop:
        told: list[object] = []
        with shop.store.feed.listening(
            lambda batch: told.extend(t.fact.data for t in batch if t.fact.type == "job.progress")
        ):
            job = await shop.submit()
            await wait_until(lambda: told, what="progress in the feed")
        progress = shop.pool.progress(job.id)
        [status] = [slot for slot in shop.pool.slots() if slot.job == job.id]
        fifo.write_text("go\n")
        job = await shop.ended(job)
        assert b"::progress 42.5 half way\n" in await shop.stdout(job)
    assert told == [{"percent": 42.5, "text": "half way"}]
    assert progress is not None
    assert (progress.percent, progress.text) == (42.5, "half way")
    assert status.progress == progress
    assert job.result == '{"pages": [1, 2]}'
    assert job.progress is not None
    assert (job.progress.percent, job.progress.text) == (100.0, "all")


async def test_head_and_tail_of_a_long_output_are_kept(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("seq 1 200000", output_limit=20_000)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        parts = [(f.stream, f.data) for f in frames(await shop.framed(job))]
    whole = b"".join(b"%d\n" % i for i in range(1, 200_001))
    [cut] = [i for i, (stream, _) in enumerate(parts) if stream is Stream.CUT]
    head = b"".join(data for _, data in parts[:cut])
    tail = b"".join(data for _, data in parts[cut + 1 :])
    assert (head, tail) == (whole[:10_000], whole[-10_000:])
    assert int(parts[cut][1]) == len(whole) - 20_000
    assert (attempt.output.stdout, attempt.output.cut) == (len(whole), len(whole) - 20_000)
    assert sorted(p.name for p in (tmp_path / "state" / "output").iterdir()) == [f"{job.id}-1.out"]
