"""What people do on the pages, and what the pages do meanwhile."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from playwright.async_api import expect

from pq_daemon.jobs.model import JobId, Progress, QueueName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Event
from pq_daemon.jobs.status import SlotState, SlotStatus
from pq_daemon.server import keys
from pq_daemon.store.protocol import Claim
from tests.browser.conftest import sign_in, visiting
from tests.support.builders import PERSON, a_claim, a_file, a_job, ending
from tests.support.serving import PASSWORDS, a_site, some_settings
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site

WATCH_SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    window.shift += entry.value;
    const told = (node) => node?.outerHTML ?? node?.textContent;
    window.shifted = entry.sources.map((source) => told(source.node));
  }
}).observe({ type: "layout-shift", buffered: false });
"""


async def live(page: Page) -> None:
    await page.wait_for_selector('[data-pill="live"]')


async def test_the_first_page_after_the_login_shows_the_jobs(site: Site, browser: Browser) -> None:
    async with visiting(browser, site) as visit:
        page = visit.page
        await page.goto("/manager/jobs/1")
        assert "/login?next=" in page.url
        await page.get_by_label("Name").fill("vera")
        await page.get_by_label("Password").fill(PASSWORDS["vera"])
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/manager/jobs/1")
        await page.get_by_role("link", name="Manager").click()
        await expect(page.locator("tr[data-job]")).to_have_count(15)
        await expect(page.locator(".c-actions")).to_have_count(0)
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")
        assert not visit.complaints


async def test_buttons_act_in_place(site: Site, browser: Browser) -> None:
    """A press changes the row where it stands; nothing is loaded anew."""
    job = await a_job(site.store)
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await live(page)
        await page.evaluate("window.sameDocument = true")
        row = page.locator(f'tr[data-job="{job.id}"]')
        await row.get_by_role("button", name="Hold").click()
        await expect(row.locator(".state")).to_have_text("held")
        await row.get_by_role("button", name="Release").click()
        await expect(row.locator(".state")).to_have_text("queued")
        await row.get_by_role("button", name="Cancel").click()
        await expect(row.locator(".state")).to_have_text("cancelled")
        await row.get_by_role("button", name="Retry").click()
        await expect(row.locator(".state")).to_have_text("queued")
        assert await page.evaluate("window.sameDocument")
        assert (await site.store.job(job.id)).run == 2
        assert not visit.complaints


async def test_a_refusal_is_told_and_changes_nothing(site: Site, browser: Browser) -> None:
    root = bytes(site.settings.watches[0].path)
    job = await a_job(site.store, file=a_file(b"gone.txt", root=root), payload=None)
    await site.store.act(job.id, Event.CANCEL, PERSON)
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        row = page.locator(f'tr[data-job="{job.id}"]')
        await row.get_by_role("button", name="Retry").click()
        await expect(page.get_by_role("alert")).to_contain_text("is gone")
        await expect(row.locator(".state")).to_have_text("cancelled")


async def test_a_queue_is_paused_with_a_reason_and_resumed(site: Site, browser: Browser) -> None:
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await live(page)
        card = page.locator('[data-queue="files"]')
        await card.locator("summary").click()
        await card.get_by_label("Why?").fill("toner <b>")
        await page.keyboard.press("Enter")
        await expect(card.locator(".paused-note")).to_have_text("Paused by mara: toner <b>")
        [queue] = await site.store.queues()
        assert queue.paused is not None
        assert (queue.paused.reason, queue.paused.by) == ("toner <b>", "mara")
        await card.get_by_role("button", name="Resume").click()
        await expect(card.locator(".paused-note")).to_be_hidden()
        assert not visit.complaints


async def churn(site: Site, rounds: int) -> None:
    """Accept, run and end jobs, as a busy daemon does."""
    for _ in range(rounds):
        await a_job(site.store)
        claimed = (await site.store.exchange([], a_claim(3))).claimed
        told = [ending(site.store, job) for _, job in claimed]
        await site.store.exchange(told, Claim())


async def test_rows_stay_where_they_are_while_jobs_come_and_go(
    site: Site, browser: Browser
) -> None:
    """New jobs are counted in a bar, rows change in place, selection and scroll are left alone."""
    async with visiting(browser, site, viewport={"width": 1440, "height": 600}) as visit:
        page = visit.page
        await sign_in(page)
        await live(page)
        order = await page.eval_on_selector_all(
            "tr[data-job]", "rows => rows.map(r => r.dataset.job)"
        )
        await page.locator('tr[data-job="9"] .c-name').select_text()
        await page.mouse.wheel(0, 200)
        await wait_until(lambda: page.evaluate("scrollY > 0"))
        scrolled = await page.evaluate("scrollY")
        chosen = await page.evaluate("String(getSelection())")
        await page.evaluate(WATCH_SHIFTS)
        await churn(site, 40)
        await expect(page.locator("[data-newcomers]")).to_contain_text("40 new jobs")
        await expect(page.locator('tr[data-job="12"] .state')).to_have_text("succeeded")
        await expect(page.locator('[data-count="all"]')).to_have_text("55")
        after = await page.eval_on_selector_all(
            "tr[data-job]", "rows => rows.map(r => r.dataset.job)"
        )
        assert after == order
        assert await page.evaluate("scrollY") == scrolled
        assert await page.evaluate("String(getSelection())") == chosen
        assert await page.evaluate("window.shift") == 0, await page.evaluate("window.shifted")
        await page.get_by_role("link", name="40 new jobs").click()
        await expect(page.locator("tr[data-job]")).to_have_count(50)
        assert not visit.complaints


async def test_a_row_that_no_longer_matches_stays_and_is_dimmed(
    site: Site, browser: Browser
) -> None:
    job = await a_job(site.store)
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await page.goto("/manager?state=queued")
        await live(page)
        await site.store.act(job.id, Event.HOLD, PERSON)
        row = page.locator(f'tr[data-job="{job.id}"]')
        await expect(row).to_have_class("moved")
        await expect(row.locator(".state")).to_have_text("held")
        await site.store.act(job.id, Event.RELEASE, PERSON)
        await expect(row).not_to_have_class("moved")


async def test_progress_moves_in_its_row(site: Site, browser: Browser) -> None:
    [running] = [status for status in site.panel.slot_list if status.slot == 3]
    assert running.job is not None
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await live(page)
        site.panel.progresses[running.job] = Progress(73.0, "page <7>")
        row = page.locator(f'tr[data-job="{running.job}"]')
        await expect(row.locator(".percent")).to_have_text("73 %")
        await expect(row.locator(".progress-text")).to_have_text("page <7>")


async def test_a_jobs_page_follows_its_job(site: Site, browser: Browser) -> None:
    job = await a_job(site.store)
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await page.goto(f"/manager/jobs/{job.id}")
        await live(page)
        await expect(page.get_by_role("button", name="Release")).to_be_disabled()
        await page.get_by_role("button", name="Hold").click()
        await expect(page.locator(".job-head .state")).to_have_text("held")
        await expect(page.get_by_role("button", name="Hold")).to_be_disabled()
        await page.get_by_role("button", name="Release").click()
        await churn(site, 2)
        await expect(page.locator(".job-head .state")).to_have_text("succeeded")
        await page.get_by_role("link", name="Show what is new").click()
        await expect(page.locator("#attempt-1 .state")).to_have_text("succeeded")
        assert not visit.complaints


async def test_ops_moves_by_itself(site: Site, browser: Browser) -> None:
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await page.goto("/ops")
        await live(page)
        await page.mouse.move(5, 5)
        await page.evaluate(WATCH_SHIFTS)
        slot = page.locator('[data-slot="4"]')
        await expect(slot.locator(".state")).to_have_text("idle")
        since, name = Moment(site.store.now()), "in/<b>new</b>.txt"
        site.panel.slot_list[3] = SlotStatus(
            4, SlotState.RUNNING, JobId(1), name, QueueName("files"), 2, since, Progress(20.0, "")
        )
        await expect(slot.locator(".state")).to_have_text("running")
        await expect(slot.locator(".slot-job")).to_have_text("b>.txt")
        job = await a_job(site.store, file=a_file(b"fresh.txt", root=b"/srv"), payload=None)
        first = page.locator("[data-feed] li").first
        await expect(first).to_contain_text("accepted")
        await expect(first.get_by_role("link")).to_have_text("fresh.txt")
        await expect(first.get_by_role("link")).to_have_attribute("href", f"/manager/jobs/{job.id}")
        await churn(site, 5)
        await expect(page.locator('.counters [data-count="queued"]')).to_have_text("0")
        await expect(page.locator('[data-total="succeeded"]')).to_have_text("11")
        assert await page.evaluate("window.shift") == 0, await page.evaluate("window.shifted")
        assert not visit.complaints


async def test_the_feed_holds_still_while_somebody_looks(site: Site, browser: Browser) -> None:
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await page.goto("/ops")
        await live(page)
        first = page.locator("[data-feed] li").first
        await first.hover()
        before = await first.inner_text()
        await churn(site, 3)
        await expect(page.locator("[data-feed-held]")).to_be_visible()
        assert await first.inner_text() == before
        await page.mouse.move(5, 5)
        await expect(first).to_contain_text("succeeded")


async def test_the_pill_pauses_for_real(site: Site, browser: Browser) -> None:
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await live(page)
        await page.locator("[data-pill]").click()
        await expect(page.locator("[data-pill]")).to_have_text("Paused")
        await wait_until(lambda: len(site.server.app[keys.HUB]) == 0)
        await a_job(site.store)
        await page.locator("[data-pill]").click()
        await expect(page.locator('[data-count="all"]')).to_have_text("16")


async def test_a_session_that_ended_is_told(site: Site, browser: Browser) -> None:
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await live(page)
        site.server.configure(site.settings.model_copy(update={"users": ()}))
        await expect(page.locator("[data-pill]")).to_have_text("Session ended")
        await page.locator("[data-pill]").click()
        await page.wait_for_url("**/login?next=%2Fmanager")


async def test_a_daemon_that_comes_back_is_found_again(
    store: SqliteStore, tmp_path: Path, browser: Browser
) -> None:
    """The page says that it is alone, and goes on by itself when the daemon is back."""
    async with AsyncExitStack() as life:
        first = await life.enter_async_context(a_site(some_settings(tmp_path), store))
        async with visiting(browser, first) as visit:
            page = visit.page
            await sign_in(page)
            await live(page)
            await life.aclose()
            await expect(page.locator("[data-pill]")).to_contain_text("Offline")
            await a_job(store)
            listen = {"listen": first.url.removeprefix("http://")}
            settings = some_settings(tmp_path, server=listen, users=first.settings.users)
            await life.enter_async_context(a_site(settings, store))
            await live(page)
            await expect(page.locator('[data-count="all"]')).to_have_text("1")
            assert not [text for text in visit.complaints if "WebSocket" not in text]


async def test_names_do_nothing_but_show(site: Site, browser: Browser) -> None:
    """Markup, directions and line ends in names, in output and in search, live and at first."""
    evil = "<img src=x onerror=alert(1)>.txt"
    root = bytes(site.settings.watches[0].path)
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await page.goto("/ops")
        await live(page)
        await page.mouse.move(5, 5)
        job = await a_job(site.store, file=a_file(evil.encode(), root=root), payload=None)
        link = page.locator("[data-feed] li").first.get_by_role("link")
        await expect(link).to_have_text(evil)
        await page.goto(f"/manager/jobs/{job.id}")
        await expect(page.get_by_role("heading", level=1)).to_have_text(evil)
        await page.goto("/manager")
        await page.get_by_label("Part of a path").fill("onerror=alert")
        await page.keyboard.press("Enter")
        await page.wait_for_url(re.compile("search="))
        await expect(page.locator("tr[data-job]")).to_have_count(2)
        assert await page.locator("main img, main script").count() == 0
        assert not visit.complaints


async def test_everything_works_without_javascript(site: Site, browser: Browser) -> None:
    job = await a_job(site.store)
    async with visiting(browser, site, java_script_enabled=False) as visit:
        page = visit.page
        await sign_in(page)
        await page.get_by_role("link", name="queued").click()
        row = page.locator(f'tr[data-job="{job.id}"]')
        await row.get_by_role("button", name="Hold").click()
        await page.wait_for_url("**/manager?state=queued")
        assert await row.count() == 0
        await page.get_by_role("link", name="held").click()
        await row.get_by_role("button", name="Release").click()
        await page.goto(f"/manager/jobs/{job.id}")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator(".job-head .state")).to_have_text("cancelled")
        await page.goto("/manager")
        card = page.locator('[data-queue="files"]')
        await card.locator("summary").click()
        await card.get_by_label("Why?").fill("lunch")
        await card.get_by_role("button", name="Pause files").click()
        await expect(card.locator(".paused-note")).to_contain_text("lunch")
        await page.goto("/ops")
        await expect(page.locator("[data-slot]")).to_have_count(4)
        await expect(page.get_by_role("link", name="Reload")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/login")


async def test_the_keyboard_is_enough(site: Site, browser: Browser) -> None:
    """Skip to the content, walk to the first action, press it; the focus stays in the row."""
    async with visiting(browser, site) as visit:
        page = visit.page
        await sign_in(page)
        await page.goto("/manager?state=held")
        await live(page)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        button = page.get_by_role("button", name="Release")
        for _ in range(40):
            await page.keyboard.press("Tab")
            if await button.evaluate("it => it === document.activeElement"):
                break
        outline = await button.evaluate("it => getComputedStyle(it).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        row = page.locator("tr[data-job]").first
        await expect(row.locator(".state")).to_have_text("queued")
        assert await row.evaluate("it => it.contains(document.activeElement)")
