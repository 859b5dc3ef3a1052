"""`pq check`: valid is one thing, there is another."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pq_daemon.cli import main

if TYPE_CHECKING:
    from pathlib import Path

WATCH = '[[watch]]\nname = "files"\npath = "in"\n'


def check(tmp_path: Path, text: str) -> int:
    (tmp_path / "config.toml").write_text(text)
    return main(["--config", str(tmp_path / "config.toml"), "check"])


def test_all_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").touch()
    assert check(tmp_path, WATCH + '[queue.files]\ncommand = ["sha256sum", "{path}"]\n') == 0
    out = capsys.readouterr().out
    assert f"ok       watch.files: {tmp_path}/in (" in out
    assert "files rest 1 s, 2 s if empty or not ours)" in out
    assert "ok       watch.files: no files pass the filters, 1 waiting (empty) now" in out
    assert "ok       queue.files: runs /" in out
    assert " as user " in out


def test_a_missing_folder_and_a_missing_program_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, WATCH + '[queue.files]\ncommand = ["no-such-program"]\n') == 1
    out = capsys.readouterr().out
    assert f"missing  watch.files: {tmp_path}/in: does not exist; it is never created" in out
    assert "missing  queue.files: no program no-such-program in /" in out
    assert not (tmp_path / "in").exists()


def test_a_program_is_looked_for_where_the_handler_would_find_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "tools/convert-it"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    queue = '[queue.files]\ncommand = ["convert-it"]\n'
    assert check(tmp_path, queue) == 1
    assert check(tmp_path, queue + f'env = {{ PATH = "{program.parent}" }}\n') == 0
    assert f"runs {program} as user" in capsys.readouterr().out
    relative = '[queue.files]\ncommand = ["./convert-it"]\n'
    assert check(tmp_path, relative) == 1
    assert "write the whole path" in capsys.readouterr().out
    assert check(tmp_path, relative + 'cwd = "tools"\n') == 0


def test_it_warns_of_a_name_inside_a_shell_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = '["sh", "-c", "wc {path} > {output}"]'
    assert check(tmp_path, f'[queue.files]\ncommand = {command}\noutput = "out/{{stem}}"\n') == 0
    out = capsys.readouterr().out
    assert "warning  queue.files: {path} inside sh -c" in out
    assert "warning  queue.files: {output} inside sh -c" in out
    safe = '["sh", "-c", "wc \\"$1\\"", "sh", "{path}"]'
    assert check(tmp_path, f"[queue.files]\ncommand = {safe}\n") == 0
    assert "warning" not in capsys.readouterr().out


def test_a_python_handler_is_imported_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work.py").write_text("async def good(job): ...\ndef plain(job): ...\n")
    queue = '[queue.a]\nisolation = "loop"\npython = "work:{}"\n'
    assert check(tmp_path, queue.format("good")) == 0
    assert check(tmp_path, queue.format("plain")) == 1
    assert "not an async function" in capsys.readouterr().out
    assert check(tmp_path, queue.format("absent")) == 1
    assert "there is no absent in" in capsys.readouterr().out
    assert check(tmp_path, queue.replace("work", "nowhere").format("good")) == 1
    assert "No module named 'nowhere'" in capsys.readouterr().out


def test_a_function_for_a_process_is_imported_in_the_worker_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "work.py").write_text("import pq_daemon\ndef plain(job): ...\nnumber = 3\n")
    queue = '[queue.a]\npython = "work:{}"\n'
    assert check(tmp_path, queue.format("plain")) == 0
    assert "ok       queue.a: calls work:plain" in capsys.readouterr().out
    assert check(tmp_path, queue.format("number")) == 1
    assert "work:number is not a function" in capsys.readouterr().out
    assert check(tmp_path, queue.replace("work", "nowhere").format("plain")) == 1
    assert "No module named 'nowhere'" in capsys.readouterr().out
    other = queue.format("plain") + f'interpreter = "{sys.executable}"\n'
    assert check(tmp_path, other) == 0
    assert f"calls work:plain under {sys.executable}" in capsys.readouterr().out
    assert check(tmp_path, queue.format("plain") + 'interpreter = "/nowhere/python"\n') == 1
    assert "/nowhere/python cannot be started" in capsys.readouterr().out


def test_a_broken_configuration_tells_every_problem_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '[queue.files]\ncommand = ["true"]\ntimeout = 5\nsetle = "1s"\n'
    assert check(tmp_path, text) == 78
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert f"{tmp_path}/config.toml:3: queue.files.timeout: found 5" in lines[0]
    assert f"{tmp_path}/config.toml:4: queue.files.setle: unknown key" in lines[1]


def test_no_configuration_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PQ_CONFIG", raising=False)
    assert main(["check", "--config", "nowhere.toml"]) == 78
    assert "nowhere.toml" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir(mode=0)
    assert check(tmp_path, WATCH + '[queue.files]\ncommand = ["true"]\n') == 1


def test_it_counts_what_is_there_by_what_would_become_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "in"
    (inside / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt", "c.part", ".hidden", "d.bak"):
        (inside / name).write_text("text\n")
    (inside / "empty").touch()
    (inside / "link").symlink_to("a.txt")
    watch = WATCH + 'exclude = ["*.bak"]\n'
    assert check(tmp_path, watch + '[queue.files]\ncommand = ["true"]\n') == 0
    assert (
        "watch.files: 2 pass the filters, 2 left alone (temporary name), 1 left alone (excluded), "
        "1 waiting (empty), 1 left alone (not a regular file) now"
    ) in capsys.readouterr().out


def test_where_results_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue = '[queue.a]\ncommand = ["true"]\noutput = "new/{relparent}/{stem}.pdf"\n'
    assert check(tmp_path, queue) == 0
    assert f"queue.a: writes into {tmp_path}/new, which will be made" in capsys.readouterr().out
    (tmp_path / "new").write_text("a file stands in the way")
    check(tmp_path, queue)
    assert not (tmp_path / "new").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to be somebody else")
def test_rights_that_are_missing_are_named(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    (tmp_path / "in").mkdir(mode=0o755)
    (tmp_path / "in/a.txt").write_text("x")
    (tmp_path / "in/a.txt").chmod(0o600)
    (tmp_path / "in/shut").mkdir(mode=0o700)
    (tmp_path / "config.toml").write_text(
        WATCH + 'on_success = "move:done"\n'
        '[queue.files]\ncommand = ["true"]\noutput = "out/{name}"\n'
    )
    program = (
        "import os, sys; from pq_daemon.cli import main\n"
        "import pq_daemon.inspection.checking, encodings.idna\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main(['check', '--config', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "config.toml")],
        env={**os.environ, "PQ_SOCKET": str(tmp_path / "no.sock")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    folder = f"{tmp_path}/in may not be written to by user nobody (owner root, group root, mode"
    for line in (
        "warning  watch.files: no files pass the filters, 1 may not be read now",
        f"warning  watch.files: may not be listed: {tmp_path}/in/shut",
        f"missing  watch.files: on_success = move:done cannot be: {folder}",
        f"missing  queue.files: output into {tmp_path}/out cannot be: {tmp_path} may not be",
        "as user nobody",
    ):
        assert line in done.stdout
