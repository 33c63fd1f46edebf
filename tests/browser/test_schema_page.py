"""The page that shows the API's description, in a browser with a strict content security policy."""

from __future__ import annotations

from django.contrib.auth.models import User

from reportqueue.models import Pause
from tests.browser.conftest import PageFactory


def test_a_call_is_found_and_tried(page_of: PageFactory):
    """The session's CSRF token goes with a call that changes something."""
    page = page_of(User.objects.create_superuser("anna"))
    page.goto("/api/schema/ui/")
    page.get_by_text("Enqueue one report or many").wait_for()
    assert page.title() == "reportqueue: the API"
    page.get_by_text("Pause the queue, a route or a report", exact=True).last.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert Pause.objects.get().route == "default"
