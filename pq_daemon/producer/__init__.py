"""Watched folders in, jobs out: events make us look, scans know, the ledger remembers."""
