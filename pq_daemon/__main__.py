"""The `pq` command, also as `python -m pq_daemon`."""

from __future__ import annotations

import sys

from pq_daemon.cli import main as run_command


def main() -> None:
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
