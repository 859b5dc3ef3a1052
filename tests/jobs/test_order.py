"""A queue's order lets everything end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.jobs.order import HEAD_START_MS, Moment, Priority, rank


def test_a_higher_priority_goes_first_at_the_same_moment() -> None:
    ranks = [rank(Moment(0), priority) for priority in Priority]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(Priority)


@given(st.sampled_from(Priority), st.integers(0, 10**13))
def test_nothing_is_overtaken_for_ever(priority: Priority, moment: int) -> None:
    """After the longest head start has passed, even idle goes before a new urgent job."""
    waited = rank(Moment(moment), priority)
    newcomer = rank(Moment(moment + max(HEAD_START_MS.values()) + 1), Priority.URGENT)
    assert waited < newcomer
