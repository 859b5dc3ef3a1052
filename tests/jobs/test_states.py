"""The table of moves: closed, complete, and the only one."""

from __future__ import annotations

import re

import pytest

from pq_daemon.jobs.states import (
    FINAL,
    MOVES,
    Event,
    Outcome,
    Reason,
    State,
    accepted_as,
    allowed_events,
    allows,
    diagram,
    released_to,
)
from pq_daemon.store.sqlite.migrating import migrations

SCHEMA = migrations()[0].script


def test_every_event_has_a_move() -> None:
    assert set(MOVES) == set(Event)


def test_only_a_person_leaves_a_final_state() -> None:
    leaving = {event for event in Event if MOVES[event].sources & FINAL}
    assert leaving == {Event.RETRY}


def test_every_live_state_has_a_way_to_an_end() -> None:
    """Walk the moves: from each live state some path reaches a final one."""
    for start in set(State) - FINAL:
        seen = {start}
        while (
            more := {
                target for move in MOVES.values() if move.sources & seen for target in move.targets
            }
            - seen
        ):
            seen |= more
        assert seen & FINAL, start


def test_running_is_left_only_by_its_own_events() -> None:
    leaving = {
        event for event, move in MOVES.items()
        if State.RUNNING in move.sources and move.target is not State.RUNNING
    }  # fmt: skip
    assert leaving == {
        Event.SUCCEED, Event.FAIL, Event.RETRY_LATER, Event.INTERRUPT, Event.LOSE,
        Event.CANCEL_RUNNING,
    }  # fmt: skip


@pytest.mark.parametrize("state", State)
def test_allowed_events_and_allows_agree(state: State) -> None:
    assert allowed_events(state) == {event for event in Event if allows(event, state)}


@pytest.mark.parametrize(
    ("held_from", "ahead", "to"),
    [
        (State.SCHEDULED, True, State.SCHEDULED),
        (State.RETRYING, True, State.RETRYING),
        (State.SCHEDULED, False, State.QUEUED),
        (State.RETRYING, False, State.QUEUED),
        (State.QUEUED, True, State.QUEUED),
        (State.QUEUED, False, State.QUEUED),
    ],
)
def test_release_goes_back_while_run_at_is_ahead(held_from: State, ahead: bool, to: State) -> None:
    assert released_to(held_from, run_at_ahead=ahead) is to


def test_accepted_as() -> None:
    assert accepted_as(hold=True, run_at_ahead=True) is State.HELD
    assert accepted_as(hold=False, run_at_ahead=True) is State.SCHEDULED
    assert accepted_as(hold=False, run_at_ahead=False) is State.QUEUED


def test_the_diagram_draws_every_move() -> None:
    lines = diagram().splitlines()
    for event, move in MOVES.items():
        for source in move.sources:
            for target in move.targets:
                assert f"    {source} --> {target}: {event.value.replace('_', ' ')}" in lines


@pytest.mark.parametrize(
    ("column", "words"),
    [("state", State), ("reason", Reason), ("outcome", Outcome)],
)
def test_the_schema_restates_the_words(column: str, words: type[State | Reason | Outcome]) -> None:
    found = re.search(rf"\n    {column} TEXT[^(]*CHECK \({column} IN\s*\(([^)]*)\)\)", SCHEMA)
    assert found is not None
    assert set(re.findall(r"'(\w+)'", found[1])) == {word.value for word in words}
