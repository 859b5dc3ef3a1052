"""Commands about the daemon itself: run it, check its configuration, have it reload."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pq_daemon.cli import checking, demo, place, printing, problems
from pq_daemon.cli.client import Refused
from pq_daemon.cli.command import asking
from pq_daemon.cli.exits import Exit
from pq_daemon.cli.welcome import welcome
from pq_daemon.config.passwords import demo_users
from pq_daemon.runtime.tasks import beside

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from typing import Any

    from pq_daemon.cli.client import Api
    from pq_daemon.cli.command import Register
    from pq_daemon.config.settings import Settings


def add_commands(commands: Register) -> None:
    words = commands.add("run", run, "run the daemon in the foreground")
    words.add_argument("--demo", action="store_true", help="and keep it busy with sample files")
    commands.add("check", checking.check, "check the configuration, its folders and its programs")
    commands.add("reload", asking(reload), "have the daemon read its configuration again")


# --- run -----------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> Exit:
    load = loader(arguments)
    settings = load()
    if arguments.demo:
        demo.make_folders(settings)
    return Exit(asyncio.run(serve(settings, load, with_demo=arguments.demo)))


def loader(arguments: argparse.Namespace) -> Callable[[], Settings]:
    """Return what loads the configuration, now and at each reload; a demo stays a demo."""

    def load() -> Settings:
        settings = place.configuration(arguments)
        return demo.with_samples(settings) if arguments.demo else settings

    return load


async def serve(settings: Settings, load: Callable[[], Settings], *, with_demo: bool) -> int:
    from pq_daemon import daemon  # noqa: PLC0415 - the whole house: other commands start without it

    ready = asyncio.Event()
    warned = tuple(await asyncio.to_thread(demo_users, settings))

    def on_ready() -> None:
        ready.set()
        with suppress(OSError):  # nobody listens (any more): no reason to end
            for line in welcome(settings, demo_users=warned, demo=with_demo):
                printing.say(line)
            printing.flush()

    if not with_demo:
        return await daemon.run(settings, load=load, on_ready=on_ready)
    async with beside(demo.keep_dropping(settings, ready), name="demo"):
        return await daemon.run(settings, load=load, on_ready=on_ready)


# --- reload --------------------------------------------------------------------------------------


async def reload(arguments: argparse.Namespace, api: Api) -> Exit:
    try:
        answer = await api.post("/reload")
    except Refused as error:
        refusal = problems.told(error.problem, source=place.source(arguments))
        if refusal is None:
            raise
        if arguments.json:
            printing.answer(error.text)
        problems.complain(refusal)
        printing.complain("nothing was changed: the configuration that was in force still is")
        return error.exit
    if arguments.json:
        printing.answer(answer.text)
    else:
        tell(answer.body)
    return Exit.DONE


def tell(reloaded: Mapping[str, Any]) -> None:
    for key in reloaded["changed"]:
        printing.say(f"changed  {key}")
    for key in reloaded["restart"]:
        printing.say(f"restart  {key}  (changed in the file, in force after a restart)")
    if not reloaded["changed"] and not reloaded["restart"]:
        printing.say("nothing has changed")
