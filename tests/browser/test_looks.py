"""Every page in both themes and two widths: accessible, quiet, and no wider than the window.

With `PQ_SHOTS=directory` the tests also leave a picture of each, for a person to look at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]

from pq_daemon.config.problems import Problem
from pq_daemon.jobs.model import QueueName, WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.status import WatchState, WatchStatus
from pq_daemon.server.controls import Reloaded
from tests.browser.conftest import Visit, sign_in, visiting
from tests.support.builders import PERSON

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.support.serving import Site

SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGES = {
    "manager": "/manager",
    "failed": "/manager?state=failed",
    "empty": "/manager?state=failed&search=nothing",
    "nonsense": "/manager?state=nonsense",
    "job-failed": "/manager/jobs/1",
    "job-retrying": "/manager/jobs/2",
    "job-running": "/manager/jobs/8",
    "ops": "/ops",
    "nowhere": "/nowhere",
}


async def inspect(visit: Visit, name: str, width: int) -> None:
    page = visit.page
    found = await Axe().run(page)
    assert not found.response["violations"], f"{name}: {found.generate_report()}"
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
    assert not visit.complaints, name
    directory = os.environ.get("PQ_SHOTS")
    if directory:
        await page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_page_is_accessible_quiet_and_fits(
    site: Site, browser: Browser, scheme: str, size: str
) -> None:
    viewport = SIZES[size]
    await site.store.pause(QueueName("files"), PERSON, "the printer is out of toner, back at three")
    async with visiting(browser, site, color_scheme=scheme, viewport=viewport) as visit:
        await visit.page.goto("/login?next=/ops")
        await inspect(visit, f"login-{scheme}-{size}", viewport["width"])
        await sign_in(visit.page)
        for name, address in PAGES.items():
            await visit.page.goto(address)
            if name not in {"nonsense", "nowhere"} and "data-pill" in await visit.page.content():
                await visit.page.wait_for_selector('[data-pill="live"], .page-error')
            await inspect(visit, f"{name}-{scheme}-{size}", viewport["width"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_bad_days_are_accessible_too(site: Site, browser: Browser, scheme: str) -> None:
    """A refused reload, a missing watch, a failed login, a stopping daemon."""
    wrong = Problem("watch.files.setle", 14, "unknown key", "settle", 'did you mean "settle"?')
    site.panel.last_reload = Reloaded(Moment(site.store.now()), problems=(wrong,))
    site.panel.watch_list = [WatchStatus(WatchName("files"), WatchState.MISSING, "not there")]
    site.panel.phase = "stopping"
    async with visiting(browser, site, color_scheme=scheme) as visit:
        await visit.page.goto("/login")
        await visit.page.get_by_label("Name").fill("mara")
        await visit.page.get_by_label("Password").fill("wrong")
        await visit.page.get_by_role("button", name="Sign in").click()
        assert await visit.page.get_by_role("alert").count() == 1
        await inspect(visit, f"login-failed-{scheme}", 1440)
        await sign_in(visit.page)
        for name, address in {"manager-bad": "/manager", "ops-bad": "/ops"}.items():
            await visit.page.goto(address)
            await visit.page.wait_for_selector('[data-pill="live"]')
            await inspect(visit, f"{name}-{scheme}", 1440)


async def test_narrow_windows_and_large_text_fit(site: Site, browser: Browser) -> None:
    """320 pixels is also what is left of 1280 at 400 % zoom."""
    async with visiting(browser, site, viewport={"width": 320, "height": 640}) as visit:
        await sign_in(visit.page)
        for name in ("manager", "job-retrying", "ops"):
            await visit.page.goto(PAGES[name])
            assert await visit.page.evaluate("document.documentElement.scrollWidth") <= 320, name
