"""The desk: who is due when, who is told, who has left. No clock, no loop."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pq_daemon.jobs.versions import Identity
from pq_daemon.producer.candidates import BATCH_FILES, RECENT_SIZE, SMALL_MOST, Desk, Phase, Size


def identity(number: int = 1, size: int = 10) -> Identity:
    return Identity(number, size, number, number)


def test_due_when_unchanged_for_so_long() -> None:
    desk = Desk()
    desk.note(b"/a", identity(), now=10.0, settle=1.0)
    assert desk.ripen(10.9) == set()
    assert desk.next_due() == 11.0
    assert desk.ripen(11.0) == {Size.SMALL}
    assert [file.path for file in desk.take(Size.SMALL)] == [b"/a"]
    assert desk.take(Size.SMALL) == []


def test_a_change_begins_the_time_anew_and_a_mere_touch_does_not() -> None:
    desk = Desk()
    desk.note(b"/a", identity(1), now=10.0, settle=1.0)
    desk.note(b"/a", identity(1), now=10.5, settle=1.0)
    assert desk.next_due() == 11.0
    desk.note(b"/a", identity(2), now=10.9, settle=1.0)
    assert desk.next_due() == 11.9


def test_a_change_while_it_is_looked_at_is_not_lost() -> None:
    desk = Desk()
    desk.note(b"/a", identity(1), now=0, settle=1)
    desk.ripen(1)
    [file] = desk.take(Size.SMALL)
    desk.note(b"/a", identity(2), now=1.5, settle=1)
    desk.finish(file, identity(1))
    assert desk.get(b"/a") is file
    assert desk.next_due() == 2.5
    desk.ripen(3)
    [again] = desk.take(Size.SMALL)
    desk.finish(again, identity(2))
    assert len(desk) == 0
    assert desk.has_just_left(b"/a", identity(2))
    assert not desk.has_just_left(b"/a", identity(1))


def test_a_blocked_file_is_looked_at_again_when_something_happens() -> None:
    desk = Desk()
    desk.note(b"/a", identity(1), now=0, settle=1)
    desk.ripen(1)
    [file] = desk.take(Size.SMALL)
    desk.postpone(file, "open for writing", 60, blocked=True)
    assert desk.next_due() == 60
    desk.note(b"/a", identity(1), now=5, settle=1)
    assert desk.next_due() == 5


def test_blocked_files_do_not_fill_the_desk() -> None:
    desk = Desk(limit=2)
    for name in (b"/a", b"/b"):
        desk.note(name, identity(), now=0, settle=0)
    full_before = desk.is_full
    desk.ripen(1)
    for file in desk.take(Size.SMALL):
        desk.postpone(file, "open for writing", 9, blocked=True)
    assert (full_before, desk.is_full) == (True, False)
    desk.drop(b"/a")
    assert desk.blocked == 1


def test_large_files_do_not_stand_in_the_line_of_small_ones() -> None:
    desk = Desk()
    for number in range(3):
        desk.note(b"/large%d" % number, identity(size=SMALL_MOST + 1), now=0, settle=0)
    for number in range(BATCH_FILES + 1):
        desk.note(b"/small%d" % number, identity(), now=0, settle=0)
    assert desk.ripen(1) == {Size.SMALL, Size.LARGE}
    assert len(desk.take(Size.SMALL)) == BATCH_FILES
    assert len(desk.take(Size.LARGE)) == 1
    assert len(desk.take(Size.SMALL)) == 1


def test_a_reason_is_told_once() -> None:
    desk = Desk()
    desk.note(b"/a", identity(), now=0, settle=1)
    assert list(desk.untold) == [b"/a"]
    file = desk.get(b"/a")
    assert file is not None
    desk.tell(file, "settling")
    assert not desk.untold
    desk.postpone(file, "settling", 2, blocked=False)
    assert not desk.untold
    desk.postpone(file, "open for writing", 2, blocked=True)
    assert list(desk.untold) == [b"/a"]


def test_a_file_that_comes_back_from_the_ledger_has_been_told() -> None:
    desk = Desk()
    desk.note(b"/a", identity(), now=0, settle=1, reason="empty", told="empty")
    assert not desk.untold
    file = desk.get(b"/a")
    assert file is not None
    assert file.arrived == -inf


def test_what_has_left_is_remembered_for_a_while_only() -> None:
    desk = Desk()
    for number in range(RECENT_SIZE + 10):
        desk.note(b"/%d" % number, identity(), now=0, settle=0)
        file = desk.get(b"/%d" % number)
        assert file is not None
        desk.finish(file, identity())
    assert not desk.has_just_left(b"/0", identity())
    assert desk.has_just_left(b"/%d" % (RECENT_SIZE + 9), identity())


class DeskMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order: nobody is forgotten, nobody is handed out twice."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(limit=5)
        self.now = 0.0
        self.out: list[bytes] = []

    @rule(name=st.sampled_from(b"abcdef"), number=st.integers(1, 3))
    def see(self, name: int, number: int) -> None:
        self.desk.note(b"/%c" % name, identity(number), self.now, 1.0)

    @rule(name=st.sampled_from(b"abcdef"))
    def leave(self, name: int) -> None:
        self.desk.drop(b"/%c" % name)
        self.out = [path for path in self.out if path != b"/%c" % name]

    @rule(step=st.floats(0, 3))
    def wait(self, step: float) -> None:
        self.now += step
        self.desk.ripen(self.now)

    @rule()
    def take(self) -> None:
        for file in self.desk.take(Size.SMALL):
            assert file.path not in self.out
            self.out.append(file.path)

    @precondition(lambda self: self.out)
    @rule(blocked=st.booleans(), pause=st.floats(0, 2))
    def hand_back(self, blocked: bool, pause: float) -> None:
        file = self.desk.get(self.out.pop())
        assert file is not None
        self.desk.postpone(file, "why", self.now + pause, blocked=blocked)

    @precondition(lambda self: self.out)
    @rule(number=st.integers(1, 3))
    def finish(self, number: int) -> None:
        file = self.desk.get(self.out.pop())
        assert file is not None
        self.desk.finish(file, identity(number))

    @invariant()
    def everyone_is_out_due_or_scheduled(self) -> None:
        scheduled = {path for _, _, path in self.desk._times}
        lines = {path for line in self.desk._due.values() for path in line}
        for file in self.desk:
            where = {Phase.WAITING: scheduled, Phase.DUE: lines, Phase.CHECKED: set(self.out)}
            assert file.path in where[file.phase]
        assert self.desk.blocked == sum(file.blocked for file in self.desk)
        assert all(self.desk.get(path) for path in self.desk.untold)


TestDesk = DeskMachine.TestCase
TestDesk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
