"""Finding the file, reading it, and what its paths and names become."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pq_daemon.config import loading
from pq_daemon.config.loading import ConfigurationError, Problem, find_config, load, parse
from tests.config.texts import HASH, QUEUE, only, read, read_queue, read_watch, refused


def problem_of(path: Path) -> Problem:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert caught.value.source == path
    return only(list(caught.value.problems))


# --- finding -------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to stand in, and a private stand-in for /etc."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("PQ_CONFIG", raising=False)
    monkeypatch.setattr(loading, "PLACES", (loading.PLACES[0], tmp_path / "etc/pq/config.toml"))
    return tmp_path


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(QUEUE)
    return path


def test_the_four_places_come_in_order(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = write(place / "etc/pq/config.toml")
    assert find_config(None) == etc
    write(place / "here/config.toml")
    assert find_config(None) == Path("config.toml")
    named = write(place / "named.toml")
    monkeypatch.setenv("PQ_CONFIG", str(named))
    assert find_config(None) == named
    given = write(place / "given.toml")
    assert find_config(given) == given


def test_the_places_are_the_promised_ones() -> None:
    assert [str(path) for path in loading.PLACES] == ["config.toml", "/etc/pq/config.toml"]


def test_without_any_the_error_names_every_place(place: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_config(None)
    assert caught.value.source is None
    said = str(caught.value)
    for looked in [
        "--config",
        "$PQ_CONFIG",
        f"{place}/here/config.toml",
        f"{place}/etc/pq/config.toml",
    ]:
        assert looked in said


def test_a_named_file_that_is_missing_is_not_replaced_by_another(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place / "here/config.toml")
    with pytest.raises(ConfigurationError, match="named by --config"):
        find_config(place / "typo.toml")
    monkeypatch.setenv("PQ_CONFIG", str(place / "typo.toml"))
    with pytest.raises(ConfigurationError, match=r"named by \$PQ_CONFIG"):
        find_config(None)
    monkeypatch.setenv("PQ_CONFIG", "")
    assert find_config(None) == Path("config.toml")


# --- reading -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "config.toml").found == "cannot be read: No such file or directory"


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert problem_of(tmp_path / "pipe").found == "cannot be read: it is not a regular file"
    assert problem_of(tmp_path).found == "cannot be read: it is not a regular file"


def test_a_file_that_is_far_too_large(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"#" * (2**20 + 1))
    assert problem_of(path).found == "cannot be read: it is larger than 1 MiB"


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"# \xc3\xa4\n# caf\xe9\n")
    problem = problem_of(path)
    assert (problem.found, problem.line) == ("not UTF-8 text", 2)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a = 1\n[daemon]\nworkers == 3", 3, "not TOML: Invalid value, column 10"),
        ("[daemon", 1, "not TOML: "),
        ('[daemon]\nnode = """x\n', 2, "not TOML: "),
        ("[daemon]\nworkers = 1\nworkers = 2\n", 3, "not TOML: Cannot overwrite a value, column"),
        ("\ufeff[daemon]", 1, "save it as UTF-8 without one"),
        ("[watch]\nname = 'a'\n[watch]", 3, "write [[watch]] with two brackets"),
        (f"x = {'9' * 5000}", None, "not TOML: "),
        (f"x = {'[' * 30}{']' * 30}", None, "too deep"),
        (f"x = {'[' * 9000}{']' * 9000}", None, "too deep"),
    ],
)
def test_what_is_no_toml(text: str, line: int | None, said: str) -> None:
    problem = only(refused(text))
    assert problem.key == ""
    assert problem.line == line
    assert said in problem.sentence


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    text = f"# a comment\n{QUEUE}".replace("\n", "\r\n")
    path.write_bytes(text.encode())
    settings = load(path)
    assert settings.source == path
    assert settings.text == text


def test_the_demo_configuration_of_the_repository_is_accepted() -> None:
    settings = load(Path(__file__).parents[2] / "config.toml")
    assert [watch.name for watch in settings.watches] == ["files"]


# --- what it becomes -----------------------------------------------------------------------------


def test_an_empty_file_is_a_configuration() -> None:
    settings = read("")
    assert (settings.users, settings.watches, settings.queues) == ((), (), {})
    assert settings.daemon.state_dir == Path("/srv/pq/data/state")


def test_relative_paths_start_at_the_directory_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"""\
[daemon]
state_dir = "state"
log_file = "../log/pq.log"
submit_roots = ["in", "/abs"]
[[watch]]
name = "files"
path = "./in"
{QUEUE}cwd = "work"
python_path = ["lib"]
"""
    settings = parse(text, Path("etc/config.toml"))
    home = tmp_path / "etc"
    assert settings.source == home / "config.toml"
    assert settings.directory == home
    assert settings.daemon.state_dir == home / "state"
    assert settings.daemon.log_file == home / "../log/pq.log"
    assert settings.daemon.submit_roots == (home / "in", Path("/abs"))
    assert settings.watches[0].path == home / "in"
    assert settings.queues["files"].cwd == home / "work"
    assert settings.queues["files"].python_path == (home / "lib",)


def test_an_empty_text_means_that_a_path_is_not_set() -> None:
    text = f'[daemon]\nlog_file = ""\n[server]\ntls_cert = ""\ntls_key = ""\n{QUEUE}cwd = ""\n'
    settings = read(text)
    assert settings.daemon.log_file is None
    assert settings.server.tls_cert is None
    assert settings.queues["files"].cwd is None


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("out/{stem}.pdf", "/srv/pq/out/{stem}.pdf"),
        ("{relparent}/{stem}.pdf", "/srv/pq/{relparent}/{stem}.pdf"),
        ("/srv/ocr/{stem}.pdf", "/srv/ocr/{stem}.pdf"),
        ("{parent}/{stem}.pdf", "{parent}/{stem}.pdf"),
        ("{path}.pdf", "{path}.pdf"),
        ("", ""),
    ],
)
def test_a_relative_output_starts_there_too(written: str, wanted: str) -> None:
    assert read_queue(f'output = "{written}"').output == wanted


def test_braces_in_the_directory_of_the_file_stay_braces() -> None:
    text = f'{QUEUE}output = "{{stem}}"\n'
    settings = read(text, Path("/srv/{path}/config.toml"))
    assert settings.queues["files"].output == "/srv/{{path}}/{stem}"


def test_names_are_filled_in() -> None:
    assert read_watch("").queue == "files"
    assert read_watch('queue = ""').queue == "files"
    assert read_queue("").name == "files"
    settings = read('[queue."a.b"]\ncommand = ["true"]')
    assert settings.queues["a.b"].name == "a.b"


def test_order_is_that_of_the_file() -> None:
    settings = read(
        '[queue.b]\ncommand=["true"]\n[queue.a]\ncommand=["true"]\n'
        '[[watch]]\nname="z"\npath="z"\nqueue="a"\n[[watch]]\nname="y"\npath="y"\nqueue="b"\n'
    )
    assert list(settings.queues) == ["b", "a"]
    assert [watch.name for watch in settings.watches] == ["z", "y"]


def test_two_users() -> None:
    settings = read(
        f'[[user]]\nname = "admin"\nrole = "manager"\npassword_hash = "{HASH}"\n'
        f'[[user]]\nname = "Zoë"\npassword_hash = "{HASH}"\n'
    )
    assert [(user.name, user.role) for user in settings.users] == [
        ("admin", "manager"),
        ("Zoë", "viewer"),
    ]


def test_the_pool_has_at_least_four_slots() -> None:
    assert read("").daemon.slots == max(4, os.cpu_count() or 1)
    assert read("[daemon]\nworkers = 2").daemon.slots == 2
