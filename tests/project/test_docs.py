"""The README does not lag: keys, defaults, commands and states are as the code has them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pq_daemon import __version__
from pq_daemon.cli import parsing
from pq_daemon.cli.exits import Exit
from pq_daemon.config import notation
from pq_daemon.config.describing import written_default
from pq_daemon.config.loading import parse
from pq_daemon.config.settings import LATER, RESTART
from pq_daemon.config.tables import HEADERS, TABLES, inner_table, keys
from pq_daemon.jobs import placeholders
from pq_daemon.jobs.states import Outcome, Reason, State, diagram

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_YET = README.partition("## Not yet available")[2]


def section(heading: str) -> str:
    """The part of the README under a heading, up to the next one of its rank or above."""
    rank = heading.partition(" ")[0]
    after = README.partition(f"\n{heading}\n")[2]
    assert after, f"no section {heading}"
    return re.split(rf"\n#{{1,{len(rank)}}} ", after)[0]


def rows(text: str) -> dict[str, list[str]]:
    """Tables: the cells of each row by its first cell."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells:
            found[cells[0].strip("`")] = cells[1:]
    return found


def every_key() -> list[tuple[str, str]]:
    """(table, key), inner tables as backoff.base."""
    found = []
    for table, model in TABLES.items():
        for key in keys(model):
            inner = inner_table(model.model_fields[key])
            names = [f"{key}.{name}" for name in keys(inner)] if inner else [key]
            found += [(table, name) for name in names]
    return found


@pytest.mark.parametrize(("table", "key"), every_key())
def test_every_key_is_listed_with_its_default_and_mark(table: str, key: str) -> None:
    first, _, second = key.partition(".")
    info = TABLES[table].model_fields[first]
    if second:
        inner = inner_table(info)
        assert inner is not None
        info = inner.model_fields[second]
    listed = rows(section(f"### `{HEADERS[table]}`"))
    if LATER in info.metadata:
        assert key not in listed
        assert f"`{second or first}`" in NOT_YET or f"`{table}.{key}`" in NOT_YET
        return
    default, meaning = listed[key]
    expected = "needed" if info.is_required() else f"`{notation.value(written_default(info))}`"
    assert default == expected
    assert ("*restart*" in meaning) == (RESTART in info.metadata)


def test_no_key_is_listed_that_does_not_exist() -> None:
    known = set(every_key())
    for table, header in HEADERS.items():
        listed = rows(section(f"### `{header}`")).keys() - {"key", "---"}
        assert {(table, key) for key in listed} <= known


def test_the_list_of_commands_is_the_parsers() -> None:
    listed = re.findall(r"^\| `pq ([a-z-]+)", section("## Commands"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(parsing.names())


def test_the_exit_statuses() -> None:
    listed = {int(key) for key in rows(section("## Commands")) if key.isdigit()}
    assert listed == {int(each) for each in Exit}


def test_the_diagram_is_drawn_from_the_table_of_moves() -> None:
    shown = re.search(r"<!-- states: .*?-->\n```mermaid\n(.*?)\n```", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == diagram()


def test_every_word_for_states_reasons_and_outcomes_is_explained() -> None:
    text = section("## The states of a job")
    words = [*State, *Outcome, *Reason]
    assert [word for word in words if f"`{word}`" not in text] == []


def test_every_placeholder_is_listed() -> None:
    listed = rows(section("## What a handler gets"))
    assert [name for name in placeholders.KNOWN if f"{{{name}}}" not in listed] == []


def test_the_smallest_configuration_is_one(tmp_path: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", section("## Configuration"), re.DOTALL)
    assert text is not None
    whole = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2E$" + "A" * 43
    settings = parse(text[1].replace("$argon2id$...", whole), tmp_path / "config.toml")
    assert settings.watches[0].queue == "scans"


def test_links_inside_the_readme_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
    for target in re.findall(r"\]\((?!#|http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_demo_configuration_is_valid_and_the_one_the_readme_speaks_of() -> None:
    path = ROOT / "config.toml"
    settings = parse(path.read_text(encoding="utf-8"), path)
    assert settings.server.listen == "127.0.0.1:8501"
    assert settings.server.ops_public == "full"
    assert [user.name for user in settings.users] == ["admin"]
    assert settings.watches[0].path == ROOT / "data/files"
