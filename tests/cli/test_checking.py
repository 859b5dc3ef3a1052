"""`pq check`: valid is one thing, there is another."""

from __future__ import annotations

import os
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
    assert f"ok       watch.files: {tmp_path}/in can be read, 1 entries" in out
    assert "ok       queue.files: runs /" in out


def test_a_missing_folder_and_a_missing_program_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, WATCH + '[queue.files]\ncommand = ["no-such-program"]\n') == 1
    out = capsys.readouterr().out
    assert f"missing  watch.files: {tmp_path}/in does not exist" in out
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
    assert f"runs {program}" in capsys.readouterr().out
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
