"""A real browser on the real web app: Chromium by Playwright, gunicorn, PostgreSQL.

`page_of(user)` opens a page as a person. A page fails its test if its console shows an error, or if it violates the
strict content security policy of `policy.py`.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.integration.webapp import Web, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

REQUIRED = os.environ.get("REQUIRE_BROWSER") == "1"
"""Whether these tests must run, as `.ci/run` says. Otherwise they are skipped if something is missing."""
CHROMIUM = shutil.which("chromium")
TIMEOUT = 15_000
"""Milliseconds for a page to load, and for what a test expects to come about."""
PageFactory = Callable[..., "Page"]


@dataclass
class Complaints:
    """What the pages of a test have complained about. A test that provokes an error adds it to `expected`."""

    found: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Parts of complaints that are right."""

    def note(self, said: ConsoleMessage) -> None:
        """Keep what a page has written to its console, if it is an error."""
        if said.type == "error":
            self.found.append(f"{said.text} {said.location.get('url', '')}")

    def unexpected(self) -> list[str]:
        """The complaints that no entry of `expected` is a part of."""
        return [text for text in self.found if not any(part in text for part in self.expected)]


def missing(what: str) -> NoReturn:
    """Skip the test, or the module that is being imported; or fail, if it must run."""
    if REQUIRED:
        pytest.fail(f"{what} REQUIRE_BROWSER=1 says that the tests of tests/browser must run.", pytrace=False)
    pytest.skip(what, allow_module_level=True)


def playwright_api() -> Any:
    """Playwright's module; without it, the tests are `missing`."""
    try:
        return importlib.import_module("playwright.sync_api")
    except ImportError:
        missing("playwright is not installed: pip install playwright.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each of these tests works on a database that the web app sees too."""
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            item.add_marker(pytest.mark.django_db(transaction=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window. Its loop ends with the module: other tests of this process need their own."""
    playwright = playwright_api()
    if CHROMIUM is None:
        missing("Chromium is not installed; on Debian: apt-get install chromium.")
    with pytest.MonkeyPatch.context() as patched:
        # Playwright's loop runs in this thread. Django would refuse the database to code beside a loop.
        patched.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        with playwright.sync_playwright() as started:
            launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], headless=True)
            playwright.expect.set_options(timeout=TIMEOUT)
            yield launched
            launched.close()


@pytest.fixture(scope="module")
def web(browser: Browser, django_db_setup: None, django_db_blocker: Any) -> Iterator[Web]:
    """The web app, one process for a module, with threads for all its pages. Depends on `browser`: it may skip."""
    with django_db_blocker.unblock(), running("tests.browser.settings", "--threads", "64") as started:
        yield started


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What the test's pages have complained about; the test fails for it at its end."""
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


@pytest.fixture
def page_of(browser: Browser, web: Web, complaints: Complaints) -> Iterator[PageFactory]:
    """`page_of(user, width=1280, javascript=True)`: an empty page of a browser in which the user has logged in.

    Addresses such as `page.goto("/admin/")` are those of the web app. Without a user: nobody has logged in.
    """
    contexts = []

    def open_page(user: User | None, width: int = 1280, javascript: bool = True) -> Page:
        context = browser.new_context(
            base_url=web.url, viewport={"width": width, "height": 900}, java_script_enabled=javascript
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT)
        context.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the project has none
        if user is not None:
            client = Client()
            client.force_login(user)
            context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": web.url}])
        page = context.new_page()
        # Violations of the policy are errors of the console, too.
        page.on("console", complaints.note)
        page.on("pageerror", lambda error: complaints.found.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def operator(transactional_db: None) -> User:
    """A person who may do everything."""
    return User.objects.create_superuser("operator")
