"""What a watch's keys allow together."""

from __future__ import annotations

from tests.config.texts import only, read_watch, refused_watch


def test_only_contents_can_be_duplicates() -> None:
    problem = only(refused_watch('identify = "stat"\nduplicates = "skip"'))
    assert problem.key == "watch.files.duplicates"
    assert problem.allowed == 'only "run" with identify = "stat"'
    assert read_watch('duplicates = "skip"').duplicates == "skip"
    assert read_watch('identify = "stat"').identify == "stat"


def test_a_marker_is_the_ending_of_a_name() -> None:
    problem = only(refused_watch('marker = "done/"'))
    assert problem.key == "watch.files.marker"
    assert problem.allowed == 'an ending such as ".done"'
    assert read_watch('marker = ".done"').marker == ".done"
