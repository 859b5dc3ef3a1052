"""A real browser (Debian's Chromium) before the real server; everything it complains of is kept."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.async_api import async_playwright

from tests.support.scenery import furnish
from tests.support.serving import PASSWORDS, Site, a_site, some_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, ConsoleMessage, Page

    from pq_daemon.store.sqlite.engine import SqliteStore

CHROMIUM: Final = Path("/usr/bin/chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(120))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"NOT TESTED: there is no {CHROMIUM}; apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        await browser.close()


@pytest.fixture
async def site(store: SqliteStore, tmp_path: Path) -> AsyncIterator[Site]:
    settings = some_settings(tmp_path)
    async with a_site(settings, store) as site:
        await furnish(store, site.panel, settings.watches[0].path)
        yield site


@dataclass
class Visit:
    """A page of the browser, and what it complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    failed_loads: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        """Keep what the console says; an answer that is an error by design is kept apart."""
        text = f"{message.type}: {message.text}"
        is_load = message.text.startswith("Failed to load resource")
        (self.failed_loads if is_load else self.complaints).append(text)


@asynccontextmanager
async def visiting(browser: Browser, site: Site, **how: Any) -> AsyncIterator[Visit]:
    """Open a page of its own, as a new visitor."""
    options = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"} | how
    context = await browser.new_context(base_url=site.url, **options)
    visit = Visit(await context.new_page())
    visit.page.on("console", visit.hear)
    visit.page.on("pageerror", lambda error: visit.complaints.append(f"error: {error}"))
    visit.page.on("dialog", lambda dialog: visit.complaints.append(f"dialog: {dialog.message}"))
    try:
        yield visit
    finally:
        await context.close()


async def sign_in(page: Page, name: str = "mara") -> None:
    await page.goto("/login")
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(PASSWORDS[name])
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/manager")
