"""Lists that come in pages: one page by default, a number of items, or all of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.cli import printing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pq_daemon.cli.client import Api

PAGE_MOST: Final = 200
LIMIT: Final = 50


def add_page_options(words: argparse.ArgumentParser) -> None:
    words.add_argument("--limit", metavar="N", type=count, default=LIMIT, help=f"default {LIMIT}")
    words.add_argument("--all", action="store_true", help="all of them, page after page")


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no number of items')
    return int(text)


async def pages(
    arguments: argparse.Namespace,
    api: Api,
    path: str,
    wanted: Mapping[str, object],
    heads: Sequence[str],
    row: Callable[[Mapping[str, Any]], Sequence[object]],
    *,
    elastic: int,
) -> None:
    """Write a list as a table a page; with --json each page as the API sent it, one a line."""
    left = arguments.limit
    cursor: str | None = None
    while True:
        limit = PAGE_MOST if arguments.all else min(left, PAGE_MOST)
        answer = await api.get(path, {**wanted, "limit": limit, "cursor": cursor})
        items, cursor = answer.body["items"], answer.body["next"]
        left -= len(items)
        if arguments.json:
            printing.answer(answer.text)
        else:
            printing.table(heads, map(row, items), elastic=elastic)
        if cursor is None or (left <= 0 and not arguments.all):
            break
    if cursor is not None and not arguments.json:
        printing.say("there are more: --limit N or --all")
