"""From "module:function" in the configuration to the function, or to a clear word why not.

The module is looked for beside the configuration, then in python_path, then among what is
installed. These directories come last in sys.path: a user's `secrets.py` must not replace Python's
own under the daemon. What was imported from them is forgotten before a reload, so that it imports
fresh. Blocking: an import runs code. `pq check` uses the same.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pq_daemon import handler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Function = Callable[[handler.Job], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why there is no such function: a sentence, and the traceback when its module raised."""

    why: str
    traceback: str = ""


_importing = threading.Lock()
_ours: dict[str, ModuleType] = {}
"""Modules that came from the configuration's directories."""


def resolve(spec: str, directory: Path, python_path: Iterable[Path]) -> Function | Unresolved:
    """Import a module and find the function in it. Only `async def` functions run in the loop."""
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name:
        return Unresolved(f'python = "{spec}": it is written "module:function"')
    places = [os.fspath(place) for place in (directory, *python_path)]
    try:
        module = _imported(module_name, places)
    except BaseException as error:  # noqa: BLE001 - the handler's door: its module may raise anything
        last = traceback.format_exception_only(error)[-1].strip()
        return Unresolved(
            f"module {module_name} cannot be imported: {last}", traceback.format_exc()
        )
    return _function(module, spec, function_name)


def _function(module: ModuleType, spec: str, name: str) -> Function | Unresolved:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        where = getattr(module, "__file__", None) or module.__name__
        return Unresolved(f"{spec}: there is no {name} in {where}")
    if not inspect.iscoroutinefunction(found):
        return Unresolved(f'{spec} is not an async function; isolation = "loop" takes no other')
    function: Function = found
    return function


def forget_modules() -> None:
    """Have the next `resolve` import afresh what came from the configuration's directories."""
    with _importing:
        for name, module in _ours.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        _ours.clear()
        importlib.invalidate_caches()


def _imported(name: str, places: list[str]) -> ModuleType:
    with _importing, _no_bytecode():
        before = set(sys.modules)
        sys.path.extend(place for place in places if place not in sys.path)
        try:
            top = name.partition(".")[0]
            if top not in _ours:
                _import_from(top, places)
            return importlib.import_module(name)
        finally:
            _ours.update(
                (new, sys.modules[new])
                for new in set(sys.modules) - before
                if _lies_in(sys.modules[new], places)
            )


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Leave no caches beside the configuration: within one second they would hide a change."""
    usual, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = usual


def _import_from(top: str, places: list[str]) -> None:
    """Import the topmost module from the given places first, whatever else has its name."""
    spec = importlib.machinery.PathFinder.find_spec(top, places)
    if spec is None or spec.loader is None:
        return  # then it is an installed one, or none
    known = sys.modules.get(top)
    if known is not None:
        if getattr(known, "__file__", None) == spec.origin:
            return  # installed in place
        raise ImportError(f"the name {top} is taken by {known!r}: rename {spec.origin}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[top] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[top]
        raise


def _lies_in(module: ModuleType, places: list[str]) -> bool:
    file = getattr(module, "__file__", None) or ""
    parts = Path(file).parts
    if not file or module.__name__.partition(".")[0] == "pq_daemon":
        return False
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return any(Path(file).is_relative_to(place) for place in places)
