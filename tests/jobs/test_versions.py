"""What makes a file a new version."""

from __future__ import annotations

from pq_daemon.jobs.versions import Identity, Verdict, compare

SEEN = Identity(inode=7, size=5, mtime_ns=100, ctime_ns=200)


def judge(found: Identity, accepted: Identity | None = SEEN, **how: bool) -> Verdict:
    return compare(accepted, found, **({"gone": False, "inodes_count": True} | how))


def test_nothing_changed() -> None:
    assert judge(SEEN) is Verdict.KNOWN


def test_never_accepted_or_gone_since_is_new() -> None:
    assert judge(SEEN, None) is Verdict.NEW
    assert judge(SEEN, gone=True) is Verdict.NEW


def test_a_chmod_asks_the_content() -> None:
    assert judge(SEEN._replace(ctime_ns=201)) is Verdict.HASH


def test_a_reused_inode_asks_the_content() -> None:
    assert judge(SEEN._replace(mtime_ns=101, ctime_ns=201)) is Verdict.HASH


def test_inodes_are_left_out_where_they_mean_nothing() -> None:
    assert judge(SEEN._replace(inode=8), inodes_count=False) is Verdict.KNOWN
    assert judge(SEEN._replace(inode=8)) is Verdict.HASH
