"""The program that runs Python handlers in a process of their own: one job at a time, in a row.

    python program.py DESCRIPTOR module:function DIRECTORY...     what the daemon starts
    python program.py --check module:function DIRECTORY...        what `pq check` asks

It runs under any Python from 3.8 on, with the standard library alone: `pq_daemon` itself is loaded
from beside this file, so it need not be installed there. Jobs come and answers go over a socket,
each message a length and JSON; bytes travel in it as latin-1 text. stdout and stderr belong to the
handler: they are flushed before an answer, so that what a job prints is told apart from the next.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import math
import os
import signal
import socket
import struct
import sys
import threading
import traceback
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, Final

LENGTH: Final = struct.Struct(">I")
RESULT_MOST: Final = 64 * 1024
"""Bytes of a result as JSON."""

HERE: Final = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - 3.8 has no better
PACKAGE: Final = os.path.dirname(os.path.dirname(HERE))  # noqa: PTH120
ENDS_OK: Final = 0
UNUSABLE: Final = 1


class Terminated(SystemExit):
    """We were told to end: what the handler holds is let go on the way out."""

    came = False  # also when the handler has swallowed it


class Unusable(Exception):
    """There is no such function: why, and the traceback when its module raised."""

    def __init__(self, why: str, trace: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.trace = trace


def main(arguments: list[str]) -> int:
    sys.dont_write_bytecode = True  # within one second, a cache would hide a change from a reload
    first, spec, *places = arguments
    _load_the_package()
    sys.path[:] = [*places, *(place for place in sys.path if place != HERE)]
    if first == "--check":
        return check(spec)
    return serve(int(first), spec)


def _load_the_package() -> None:
    """Load `pq_daemon` from beside us, so that handlers may import it under any Python."""
    spec = importlib.util.spec_from_file_location(
        "pq_daemon", f"{PACKAGE}/__init__.py", submodule_search_locations=[PACKAGE]
    )
    if spec is None or spec.loader is None:
        raise ImportError("pq_daemon is not beside its worker")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pq_daemon"] = module
    spec.loader.exec_module(module)


def check(spec: str) -> int:
    """Say on stderr, as the last line, why a function cannot be used."""
    try:
        find(spec)
    except Unusable as error:
        sys.stderr.write(f"{error.why}\n")
        return UNUSABLE
    return ENDS_OK


def find(spec: str) -> Callable[[Any], Any]:
    """Import the module and return the function.

    Raises:
        Unusable: there is none.

    """
    name, _, path = spec.partition(":")
    try:
        __import__(name)
    except Terminated:
        raise
    except BaseException as error:  # noqa: BLE001 - a module may raise anything
        why = f"module {name} cannot be imported: {last_line(error)}"
        raise Unusable(why, trace_of(error)) from None
    found: Any = sys.modules[name]
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is None:
        where = getattr(sys.modules[name], "__file__", None) or name
        raise Unusable(f"{spec}: there is no {path} in {where}")
    if not callable(found):
        raise Unusable(f"{spec} is not a function")
    function: Callable[[Any], Any] = found
    return function


# --- the life of a worker -------------------------------------------------------------------------


def serve(descriptor: int, spec: str) -> int:
    """Run jobs until the daemon closes the channel, or is no more."""
    channel = Channel(descriptor)
    streams = Streams()
    signal.signal(signal.SIGTERM, _terminate)
    bench = Bench(channel, streams, spec)
    try:
        while True:
            request = channel.receive()
            if request is None:
                return ENDS_OK
            if not channel.send(bench.work(request)):
                return ENDS_OK
    except Terminated:
        streams.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise


def _terminate(number: int, _: FrameType | None) -> None:
    Terminated.came = True
    raise Terminated(128 + number)


class Channel:
    """Our end of the socket to the daemon."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None when there will be none."""
        header = self._exactly(LENGTH.size)
        raw = header and self._exactly(LENGTH.unpack(header)[0])
        if not raw:
            return None
        message: dict[str, Any] = json.loads(raw)
        return message

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = self._socket.recv(count)
            except OSError:
                return b""
            if not part:
                return b""
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def send(self, message: dict[str, Any]) -> bool:
        """Send a message; False when nobody is there to receive it."""
        raw = json.dumps(message).encode("ascii")
        try:
            self._socket.sendall(LENGTH.pack(len(raw)) + raw)
        except OSError:
            return False
        return True


class Streams:
    """Our stdout and stderr, as they were at the start."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
        self._out, self._err = sys.stdout, sys.stderr
        self._marks = self._identities()
        self._flush_c = _flush_of_c()

    def say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def complain(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._err.write(text)

    def restore(self) -> None:
        sys.stdout, sys.stderr = self._out, self._err

    def flush(self) -> None:
        for stream in (sys.stdout, sys.stderr, self._out, self._err):
            with contextlib.suppress(Exception):
                stream.flush()
        self._flush_c()

    def are_as_they_were(self) -> bool:
        return self._marks == self._identities()

    @staticmethod
    def _identities() -> list[tuple[int, int]]:
        try:
            return [(found.st_dev, found.st_ino) for found in map(os.fstat, (1, 2))]
        except OSError:
            return []


def _flush_of_c() -> Callable[[], object]:
    """Return what flushes the buffers that code in C prints through."""
    try:
        import ctypes  # noqa: PLC0415 - not every Python has it

        flush = ctypes.CDLL(None).fflush
    except (ImportError, OSError, AttributeError):
        return lambda: None
    return lambda: flush(None)


# --- one job --------------------------------------------------------------------------------------


class Bench:
    """Where jobs are worked on. What a job changed of the process is put back before the next."""

    def __init__(self, channel: Channel, streams: Streams, spec: str) -> None:
        self._channel = channel
        self._streams = streams
        self._spec = spec
        self._pid = os.getpid()
        self._function: Callable[[Any], Any] | None = None
        self._enable_faulthandler()

    @staticmethod
    def _enable_faulthandler() -> None:
        with contextlib.suppress(ImportError, OSError):
            import faulthandler  # noqa: PLC0415 - not every Python has it

            faulthandler.enable()

    def work(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the function with a job; return the answer."""
        threads = set(threading.enumerate())
        try:
            answer = self._attempt(request)
        finally:
            if os.getpid() != self._pid:  # a copy the handler has forked: it came here by mistake
                self._streams.flush()
                os._exit(ENDS_OK)
        if Terminated.came:
            raise Terminated
        signal.alarm(0)
        os.chdir("/")
        self._streams.restore()
        self._streams.flush()
        left = [t for t in set(threading.enumerate()) - threads if not t.daemon]
        answer["reusable"] = (
            answer.get("reusable", True) and not left and self._streams.are_as_they_were()
        )
        answer["children"] = has_children()
        return answer

    def _attempt(self, request: dict[str, Any]) -> dict[str, Any]:
        trouble = self._settle_in(request)
        if trouble:
            return {"end": "failed", "reason": "not started", "error": trouble}
        try:
            if self._function is None:
                self._function = find(self._spec)
            value = self._function(self._job(request))
            if inspect.iscoroutine(value):
                import asyncio  # noqa: PLC0415 - most functions need none

                value = asyncio.run(value)
        except Terminated:
            raise
        except Unusable as error:
            self._streams.complain(error.trace)
            return {"end": "failed", "reason": "handler", "error": error.why, "reusable": False}
        except BaseException as error:  # noqa: BLE001 - the handler's door: it may raise anything
            return self._raised(error)
        return returned(value)

    @staticmethod
    def _settle_in(request: dict[str, Any]) -> str:
        """Take on the job's surroundings; return what is in the way."""
        signal.signal(signal.SIGTERM, _terminate)
        os.umask(request["umask"])
        wanted = {name.encode("latin-1"): v.encode("latin-1") for name, v in request["environment"]}
        for name in set(os.environb) - set(wanted):
            del os.environb[name]
        os.environb.update(wanted)
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined] # it remembers TMPDIR
        cwd = request["cwd"].encode("latin-1")
        try:
            os.chdir(cwd)
        except OSError as error:
            return f"cannot enter cwd {os.fsdecode(cwd)}: {error.strerror}"
        return ""

    def _job(self, request: dict[str, Any]) -> object:
        from pq_daemon import Job  # noqa: PLC0415 - only now it can be imported

        return Job(
            request["id"],
            request["run"],
            path_of(request["path"]),
            None if request["payload"] is None else json.loads(request["payload"]),
            request["attempt"],
            request["queue"],
            request["watch"],
            path_of(request["output"]),
            self._streams.say,
            self._note,
        )

    def _note(self, fraction: float, text: str) -> None:
        share = float(fraction)
        if not math.isfinite(share):
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
        self._channel.send({"progress": share, "text": str(text)[:1000]})

    def _raised(self, error: BaseException) -> dict[str, Any]:
        from pq_daemon import Discard, Retry  # noqa: PLC0415 - only now it can be imported

        if isinstance(error, Retry):
            return {"end": "retry", "reason": error.reason, "after": error.after}
        if isinstance(error, Discard):
            return {"end": "discard", "reason": error.reason}
        self._streams.complain(trace_of(error))
        return {"end": "failed", "reason": type(error).__name__, "error": last_line(error)}


def returned(value: object) -> dict[str, Any]:
    if value is None:
        return {"end": "returned", "result": None}
    try:
        result = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        why = f"the result cannot be written as JSON: {error}"
        return {"end": "failed", "reason": "result", "error": why}
    size = len(result.encode("utf-8", "surrogatepass"))
    if size > RESULT_MOST:
        why = f"the result has {size} bytes, {RESULT_MOST} is the most"
        return {"end": "failed", "reason": "result", "error": why}
    return {"end": "returned", "result": result}


def path_of(text: str | None) -> Path | None:
    return None if text is None else Path(os.fsdecode(text.encode("latin-1")))


def has_children() -> bool:
    """Whether the handler has left processes of ours, alive or not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def last_line(error: BaseException) -> str:
    return traceback.format_exception_only(type(error), error)[-1].strip()


def trace_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, theirs(error)))


def theirs(error: BaseException) -> TracebackType | None:
    """Leave out the frames above the handler's own, which tell its author nothing."""
    frames = error.__traceback__
    while frames is not None and _is_above(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _is_above(file: str) -> bool:
    return file == __file__ or os.path.basename(os.path.dirname(file)) == "asyncio"  # noqa: PTH119, PTH120


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
