"""What is counted is what a scan would find, each file by the watch that answers for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pq_daemon.config import QueueSettings, Settings, WatchSettings
from pq_daemon.inspection.surveying import survey
from pq_daemon.jobs.model import WatchName
from pq_daemon.producer.plan import make_plan

if TYPE_CHECKING:
    from pathlib import Path


def settings_of(*watches: WatchSettings) -> Settings:
    queue = QueueSettings(name="files", command=("true",))
    return Settings(watches=watches, queues={"files": queue})


def a_watch(name: str, path: Path) -> WatchSettings:
    return WatchSettings(name=name, path=path, queue="files")


def test_nested_watches_count_their_own(tmp_path: Path) -> None:
    deep = tmp_path / "in/deep"
    deep.mkdir(parents=True)
    for path in (tmp_path / "in/a", deep / "b", deep / "c"):
        path.write_text("x")
    found = survey(make_plan(settings_of(a_watch("files", tmp_path / "in"), a_watch("deep", deep))))
    assert found[WatchName("files")].words == "1 pass the filters now"
    assert found[WatchName("deep")].words == "2 pass the filters now"
    assert found[WatchName("deep")].directories == 1


def test_a_walk_that_takes_too_long_says_so(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}/deeper").mkdir(parents=True)
    found = survey(make_plan(settings_of(a_watch("files", tmp_path))), limit=0.0)
    assert found[WatchName("files")].words.endswith("(more than we looked at)")


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    found = survey(make_plan(settings_of(a_watch("files", tmp_path / "absent"))))
    assert found[WatchName("files")].words == "no files now"
