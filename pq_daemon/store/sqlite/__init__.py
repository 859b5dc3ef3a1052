"""The embedded engine: one SQLite file in the state directory, two connections.

The writing connection takes every change and every decision through the write queue, and it alone
checkpoints; the other is read-only and query-only and serves lists. Two that write and checkpoint
at once would meet the WAL-reset bug of SQLite before 3.51.3 (sqlite.org/wal.html#walresetbug). The
file is never opened by other means: a plain open() and close() would drop its POSIX locks.
"""
