"""What the demo's queues run: one sample of each kind of work, as a plain program.

    demo_handler.py slow | failing | flaky

It knows nothing of pq but the environment every command gets, so it is also an example of one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Final

STEPS: Final = 8
STEP: Final = 0.75
"""Seconds of a step of the slow kind."""

SUCCEEDS_AT: Final = 3
"""The attempt of a run in which the flaky kind succeeds."""


def slow(name: str) -> int:
    """Take some seconds, and say how far it is."""
    for step in range(1, STEPS + 1):
        time.sleep(STEP)  # noqa: TID251 - it stands for work, in a process of its own
        print(f"::progress {100 * step // STEPS} step {step} of {STEPS}", flush=True)
    print("::result " + json.dumps({"name": name, "steps": STEPS}))
    return 0


def failing(name: str) -> int:
    """Fail at every attempt, until none are left."""
    print(f"reading {name}", flush=True)
    print(f"{name}: line 1: this sample is broken on purpose", file=sys.stderr)
    return 1


def flaky(name: str) -> int:
    """Fail twice and then succeed, as a server that is busy would have it."""
    attempt = int(os.environ.get("PQ_ATTEMPT", "1"))
    if attempt % SUCCEEDS_AT:
        print(f"attempt {attempt}: the sample server is busy, try again", file=sys.stderr)
        return 1
    print(f"attempt {attempt}: {name} is through")
    return 0


KINDS: Final = {"slow": slow, "failing": failing, "flaky": flaky}


def main() -> int:
    kind = KINDS[sys.argv[1]]
    return kind(os.environ.get("PQ_NAME") or "a sample without a file")


if __name__ == "__main__":
    sys.exit(main())
