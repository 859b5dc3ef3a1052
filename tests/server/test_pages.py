"""The pages as they are served: whole without JavaScript, names as text, forms that act."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest
from yarl import URL

from pq_daemon.config import QueueSettings
from pq_daemon.config.problems import Problem
from pq_daemon.jobs.model import OutputSize, QueueName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.server.app import ROUTES
from pq_daemon.server.controls import Reloaded
from pq_daemon.server.pages import showing
from pq_daemon.server.pages.errors import local
from pq_daemon.server.pages.job import HEAD
from pq_daemon.server.pages.job_view import actions, last_line
from pq_daemon.store.outputs import Stream, framed
from pq_daemon.store.protocol import Claim
from tests.support.builders import PERSON, a_file, a_job, a_running_job, ending
from tests.support.scenery import furnish
from tests.support.serving import a_site, some_settings

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site

HOSTILE = (
    b"<script>alert(1)<&script>.txt",
    b"<img src=x onerror=alert(1)>",
    b'" onmouseover="alert(1)',
    b"{{ 7 * 7 }} {% raw %}",
    "\u202egpj.exe \u2066x".encode(),
    b"two\nlines\r\t\x1b[31m.txt",
    b"not-\xff-utf8",
    b"n" * 255,
)
TAG = re.compile(r"<[^>]*>")


async def page(session: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with session.get(URL(path, encoded=True), allow_redirects=False) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text


def text_of(markup: str) -> str:
    return html.unescape(TAG.sub("", markup))


async def pressed(session: aiohttp.ClientSession, path: str, **fields: str) -> tuple[int, str, str]:
    async with session.post(path, data=fields, allow_redirects=False) as answer:
        return answer.status, answer.headers.get("Location", ""), await answer.text()


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_are_text_on_every_page(site: Site, name: bytes) -> None:
    file = a_file(b"in/" + name, root=bytes(site.settings.watches[0].path))
    job = await a_running_job(site.store, file=file, payload=None, key=None)
    said = framed(Stream.STDOUT, name)
    told = ending(site.store, job, Outcome.FAILED, error=name.decode("utf-8", "replace"))
    told = ending(
        site.store, job, Outcome.FAILED, error=told.error, inline=said, output=OutputSize(stdout=1)
    )
    await site.store.exchange([told], Claim())
    async with site.signed_in("mara") as session:
        shown = [
            await page(session, path) for path in ("/manager", f"/manager/jobs/{job.id}", "/ops")
        ]
    for markup in shown:
        assert "<script>alert" not in markup
        assert "<img" not in markup
        assert 'onmouseover="alert' not in markup
        assert "{{ 7 * 7 }}" in markup or b"{{" not in name
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u2066]", markup)
    full = showing.display(
        name.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode()
    )
    assert full in text_of(shown[1])


async def test_people_and_handlers_cannot_write_markup_either(site: Site) -> None:
    evil = "<script>alert(2)<script>"
    job = await a_running_job(site.store, key=evil, payload=f'"{evil}"')
    await site.store.exchange([ending(site.store, job, result=f'"{evil}"')], Claim())
    await site.store.pause(QueueName("files"), PERSON, evil)
    wrong = Problem(evil, 3, evil, evil, evil)
    site.panel.last_reload = Reloaded(Moment(0), problems=(wrong,))
    async with site.signed_in("mara") as session:
        for path in ("/manager", f"/manager/jobs/{job.id}", "/ops", f"/manager?search={evil}"):
            assert "<script>alert" not in await page(session, path.replace("<", "%3C"))
        for path in (f"/manager?state={evil}", f"/manager?{evil}=1"):
            markup = await page(session, path.replace("<", "%3C"), 400)
            assert "<script>alert" not in markup
            assert evil in text_of(markup)
        for path in (f"/{evil}", f"/manager/jobs/{evil}"):
            assert "<script>alert" not in await page(session, path.replace("<", "%3C"), 404)


async def test_pages_have_nothing_inline(site: Site) -> None:
    """What the policy would block must not be there in the first place."""
    await furnish(site.store, site.panel, site.settings.watches[0].path)
    async with site.signed_in("mara") as session:
        for path in ("/manager", "/ops", "/manager/jobs/1", "/manager/jobs/2", "/nope"):
            markup = await page(session, path, 404 if path == "/nope" else 200)
            assert not re.search(r"\sstyle=|\son[a-z]+=\"|javascript:|<style", markup)
            for script in re.findall(r"<script[^>]*>", markup):
                assert 'src="/static/' in script


# --- /manager ------------------------------------------------------------------------------------


def rows(markup: str) -> list[str]:
    return re.findall(r'<tr data-job="(\d+)"', markup)


async def test_the_list_filters_and_pages_by_links(site: Site) -> None:
    jobs = [await a_job(site.store) for _ in range(7)]
    held = await a_job(site.store, hold=True)
    async with site.signed_in("vera") as session:
        markup = await page(session, "/manager?limit=3&state=queued")
        seen = rows(markup)
        while older := re.search(r'<a class="button" href="([^"]+)" rel="next"', markup):
            markup = await page(session, html.unescape(older[1]))
            seen += rows(markup)
        assert 'href="/manager?limit=3&amp;state=queued"' in markup  # back to the newest
        assert rows(await page(session, "/manager?state=held")) == [str(held.id)]
        assert rows(await page(session, f"/manager?search={held.id}&queue=&cursor=")) == [
            str(held.id)
        ]
    assert seen == [str(job.id) for job in reversed(jobs)]


async def test_tabs_count_what_the_filter_of_queues_leaves(
    store: SqliteStore, tmp_path: Path
) -> None:
    settings = some_settings(tmp_path, queues={"mail": QueueSettings(name="mail", command=("x",))})
    async with a_site(settings, store) as site, site.signed_in("vera") as session:
        await a_job(store)
        await a_job(store, queue=QueueName("mail"))
        await a_job(store, queue=QueueName("mail"), hold=True)

        async def counted(path: str) -> dict[str, str]:
            found = re.findall(r'data-count="(\w+)">([\d,]+)<', await page(session, path))
            return dict(found)

        every, mail = await counted("/manager"), await counted("/manager?queue=mail")
    assert (every["all"], every["queued"], every["held"]) == ("3", "2", "1")
    assert (mail["all"], mail["queued"], mail["held"]) == ("2", "1", "1")


async def test_empty_lists_say_what_to_do(site: Site) -> None:
    async with site.signed_in("vera") as session:
        assert f"cp README.md {site.settings.watches[0].path}/" in text_of(
            await page(session, "/manager")
        )
        assert "No job is failed" in text_of(await page(session, "/manager?state=failed"))
        markup = await page(session, "/manager?search=nothing-like-it")
        assert "nothing-like-it" in text_of(markup)
        assert 'href="/manager">Show all jobs' in markup


async def test_a_refused_reload_is_told_until_it_is_mended(site: Site) -> None:
    wrong = Problem("queue.files.timeout", 12, '"soon"', "a duration")
    site.panel.last_reload = Reloaded(Moment(0), problems=(wrong,))
    async with site.signed_in("vera") as session:
        text = text_of(await page(session, "/manager"))
        assert "queue.files.timeout, line 12" in text
        assert "a duration" in text
        site.panel.last_reload = Reloaded(Moment(1), ("queue.files.timeout",))
        assert "The last reload was refused" not in text_of(await page(session, "/manager"))


@pytest.mark.parametrize(("name", "buttons"), [("vera", False), ("olga", True)])
async def test_who_may_not_act_sees_no_buttons(site: Site, name: str, buttons: bool) -> None:
    job = await a_job(site.store)
    async with site.signed_in(name) as session:
        for path in ("/manager", f"/manager/jobs/{job.id}"):
            assert ("formaction=" in await page(session, path)) == buttons
        assert "/manager/queues/" not in await page(session, "/manager")


async def test_forms_act_and_lead_back(site: Site) -> None:
    job = await a_job(site.store)
    back = "/manager?state=queued"
    async with site.signed_in("mara") as session:
        path = f"/manager/jobs/{job.id}"
        assert (await pressed(session, f"{path}/hold", back=back))[:2] == (303, back)
        assert (await site.store.job(job.id)).state is State.HELD
        assert (await pressed(session, f"{path}/release", back="https://evil.example"))[:2] == (
            303,
            "/manager",
        )
        assert (await pressed(session, f"{path}/cancel", back="/logout"))[1] == "/manager"
        status, _, text = await pressed(session, f"{path}/hold", back=back)
        assert status == 409
        assert "cancelled" in text
        assert (await pressed(session, f"{path}/explode"))[0] == 404
        assert (await pressed(session, "/manager/queues/files/pause", reason="lunch"))[0] == 303
        assert "lunch" in text_of(await page(session, "/manager"))
        assert (await pressed(session, "/manager/queues/files/resume"))[0] == 303
        assert (await pressed(session, "/manager/queues/files/drop"))[0] == 404
        assert (await pressed(session, "/manager/queues/nope/pause"))[0] == 404
    entries = (await site.store.audit_entries(None, 3)).items
    assert [(entry.action, entry.actor.via) for entry in entries][:2] == [
        ("queue.resume", "page"),
        ("queue.pause", "page"),
    ]
    assert entries[1].reason == "lunch"


@pytest.mark.parametrize("state", list(State))
def test_every_state_offers_what_the_moves_allow(state: State) -> None:
    offered = {action.name for action in actions(state) if not action.why_not}
    assert offered == {
        State.QUEUED: {"hold", "cancel"},
        State.SCHEDULED: {"run-now", "hold", "cancel"},
        State.RETRYING: {"run-now", "hold", "cancel"},
        State.HELD: {"release", "cancel"},
        State.RUNNING: {"cancel"},
    }.get(state, {"retry"})
    assert all(action.why_not for action in actions(state) if action.name not in offered)
    assert all(
        (state in action.states.split()) != bool(action.why_not) for action in actions(state)
    )


def test_cancelling_twice_is_not_offered() -> None:
    assert not [a for a in actions(State.RUNNING, cancel_requested=True) if not a.why_not]


# --- one job -------------------------------------------------------------------------------------


async def failed_once(site: Site, output: bytes) -> Job:
    job = await a_running_job(site.store)
    told = ending(
        site.store,
        job,
        Outcome.FAILED,
        reason="exit 3",
        exit_code=3,
        error="boom\nat the end",
        final_reason=Reason.DISCARDED,
        inline=framed(Stream.STDOUT, output),
        output=OutputSize(stdout=len(output)),
    )
    await site.store.exchange([told], Claim())
    return job


async def test_a_jobs_page_tells_its_way(site: Site) -> None:
    job = await failed_once(site, b"line one\nline <two>\n\x1b[31mred\n")
    await site.store.act(job.id, Event.RETRY, PERSON)
    async with site.signed_in("vera") as session:
        markup = await page(session, f"/manager/jobs/{job.id}")
    text = text_of(markup)
    assert "line one\nline <two>\n\\x1b[31mred\n" in text
    way = [TAG.sub("", step).split() for step in re.findall(r'way-word">(.*?)</span>', markup)]
    assert [step[0] for step in way] == ["accepted", "attempt", "failed", "queued"]
    assert "exit 3" in text
    assert f"/api/v1/jobs/{job.id}/attempts/1/output" in markup


async def test_a_long_output_is_cut_and_says_so(site: Site) -> None:
    job = await a_running_job(site.store)
    line = b"x" * 99 + b"\n"
    site.store.outputs.head(job.id, 1).write_bytes(framed(Stream.STDOUT, line * 1000))
    async with site.signed_in("vera") as session:
        markup = await page(session, f"/manager/jobs/{job.id}")
    assert markup.count("x" * 99) == HEAD // 100
    assert "Only the first part is shown" in markup


async def test_the_page_says_why_a_job_waits(site: Site) -> None:
    job = await a_job(site.store)
    await site.store.pause(QueueName("files"), PERSON, "toner is out")
    async with site.signed_in("vera") as session:
        text = text_of(await page(session, f"/manager/jobs/{job.id}"))
        await page(session, "/manager/jobs/4711", 404)
        await page(session, "/manager/jobs/x", 404)
    assert "its queue is paused: toner is out" in text


# --- /ops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("public", ["off", "counts", "full"])
async def test_what_ops_shows_without_login(
    store: SqliteStore, tmp_path: Path, public: str
) -> None:
    settings = some_settings(tmp_path, server={"ops_public": public})
    async with a_site(settings, store) as site, site.visitor() as nobody:
        await furnish(store, site.panel, settings.watches[0].path)
        markup = await page(nobody, "/ops", 303 if public == "off" else 200)
    assert ("data-slot=" in markup) == (public != "off")
    assert ("rechnung-0815.pdf" in markup) == (public == "full")
    assert (str(settings.watches[0].path) in markup) == (public == "full")
    assert "/manager/jobs/" not in markup


async def test_every_link_leads_somewhere(site: Site) -> None:
    """A crawl of all links changes nothing and finds nothing broken."""
    await furnish(site.store, site.panel, site.settings.watches[0].path)
    seq, seen, todo = site.store.feed.seq, set[str](), ["/manager", "/ops"]
    async with site.signed_in("mara") as session:
        while todo:
            path = todo.pop()
            seen.add(path)
            async with session.get(URL(path, encoded=True)) as answer:
                assert answer.status == 200, path
                found = await answer.text() if answer.content_type == "text/html" else ""
            links = {html.unescape(link) for link in re.findall(r'href="(/[^"]*)"', found)}
            todo += sorted(links - seen - set(todo))
    assert len(seen) > 40
    assert site.store.feed.seq == seq
    assert any("/output" in path for path in seen)


# --- small things --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (-5, "0 ms"),
        (0, "0 ms"),
        (999, "999 ms"),
        (9_940, "9.9 s"),
        (59_000, "59 s"),
        (60_000, "1 min"),
        (61_500, "1 min 1 s"),
        (3_600_000, "1 h"),
        (90_061_000, "1 d 1 h"),
        (None, "\N{EN DASH}"),
    ],
)
def test_durations(milliseconds: int | None, words: str) -> None:
    assert showing.duration(milliseconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, "\N{EN DASH}"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20_000_000, "20.0 MB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes(count: int | None, words: str) -> None:
    assert showing.size(count) == words


def test_times_are_told_from_now() -> None:
    now = Moment(1_000_000_000)
    assert showing.relative(Moment(now - 400), now) == "now"
    assert showing.relative(Moment(now - 5_000), now) == "5 s ago"
    assert showing.relative(Moment(now + 7_200_000), now) == "in 2 h"
    assert showing.age(-500) == "0 s"


def test_long_names_keep_their_end() -> None:
    name = showing.middle("scan-" + "0" * 200 + "-final.pdf")
    assert name.tail.endswith("-final.pdf")
    assert name.head + name.tail == "scan-" + "0" * 200 + "-final.pdf"
    assert showing.middle("short.txt") == ("", "short.txt")


def test_the_last_line_of_an_error_is_the_one_that_tells() -> None:
    assert last_line("Traceback:\n  …\nValueError: no\n\n") == "ValueError: no"
    assert last_line(None) == ""


def test_only_local_addresses_are_local() -> None:
    assert local("/ops") == "/ops"
    for address in (None, "", "ops", "//x", "/\\x", "/a\nb", "/ä", "https://x"):
        assert local(address) == "/manager"


def test_addresses_are_listed_once() -> None:
    keys = [(route.method, route.path) for route in ROUTES]
    assert len(keys) == len(set(keys))
