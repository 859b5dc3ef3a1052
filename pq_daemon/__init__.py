"""pq-daemon: files copied into watched directories become durable jobs with a recorded end.

What a Python handler imports lives here: `Job`, `Retry`, `Discard`. Everything else is the
daemon's own.
"""

from pq_daemon.handler import Discard, Job, Retry

__all__ = ["Discard", "Job", "Retry", "__version__"]

__version__ = "0.1.0"
