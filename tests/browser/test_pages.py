"""Each page of the app in the admin, in a browser: wide and narrow, with and without script, and by axe's rules."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User

from project import demo_history
from reportqueue import bulk, failures, outbox, queue, tokens
from reportqueue.models import (
    AlertRule,
    BlackoutCalendar,
    BulkAction,
    Report,
    ReportQueue,
    WebhookSource,
    WebhookSubscription,
)
from reportqueue.models.bulk import OPEN
from reportqueue.states import Status
from tests.browser.conftest import Complaints, PageFactory, missing, playwright_api
from tests.conftest import build_row, build_schedule, minutes_ago

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = playwright_api().expect
try:
    from axe_playwright_python import sync_playwright as axe
except ImportError:
    missing("axe-playwright-python is not installed: pip install axe-playwright-python.")

APP = "/admin/reportqueue/"
RULES = {
    # WCAG 2.2, level AA.
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
}
CONTENT = {
    "include": [["#content"]],
    # Django's own inputs of an instant and of inline tables have no labels of their own.
    "exclude": [[".vDateField"], [".vTimeField"], [".inline-group"]],
}
PAGES = [
    "",
    "reportqueue/",
    "reportqueue/?now=failed",
    "reportqueue/{failed}/change/",
    "reportqueue/{waiting}/change/",
    "reportqueue/failures/",
    "reportqueue/bulk/?verb=requeue&status=failed",
    "reportqueue/bulk/{bulk}/",
    "reportqueue/enqueue/?report_id=1",
    "reportqueue/zone/?next=/admin/reportqueue/",
    "reportschedule/",
    "reportschedule/add/",
    "reportschedule/{schedule}/change/",
    "reportschedule/agenda/",
    "report/",
    "report/1/change/",
    "pause/",
    "pause/add/",
    "bulkaction/",
    "auditentry/",
    "blackoutcalendar/{calendar}/change/",
    "webhooksource/{source}/change/",
    "webhooksubscription/",
    "webhooksubscription/{subscription}/change/",
    "alertrule/",
    "alertrule/{rule}/change/",
    "eventdelivery/",
    "eventdelivery/{delivery}/change/",
    "apitoken/{token}/change/",
]


@pytest.fixture
def addresses(operator: User) -> dict[str, str]:
    """The address of each page, on a day like any other."""
    schema = {"type": "object", "properties": {"day": {"type": "string", "format": "date", "title": "Day"}}}
    Report(report_id=1, name="Weather", owner="Desk", params_schema=schema, description="Of a day.").save()
    demo_history.fill(150)
    schedule = build_schedule(cron="0 8 * * *", timezone="Europe/Paris")
    queue.pause(route="finance", by="anna", note="wrong totals")
    subscription = WebhookSubscription.objects.create(url="https://example.com/hook", event_types=["report.failed"])
    delivery = outbox.send_test(subscription.pk)
    delivery.log.create(status_code=500, milliseconds=12, answer="no", problem="Answered with 500.")
    objects: dict[str, Any] = {
        "failed": ReportQueue.objects.filter(status=Status.FAILED).latest("id").pk,
        "waiting": build_row(schedule=schedule, trigger_time=minutes_ago(3)).pk,
        "bulk": bulk.start("requeue", {"status": ["failed"]}, by="anna", reason="the source is back").pk,
        "schedule": schedule.pk,
        "calendar": BlackoutCalendar.objects.create(name="Holidays").pk,
        "source": WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2).pk,
        "subscription": subscription.pk,
        "delivery": delivery.pk,
        "rule": AlertRule.objects.create(name="desk", condition="late", emails=["desk@example.com"]).pk,
        "token": tokens.issue(operator, name="dagster").token.pk,
    }
    return {page: f"{APP}{page.format(**objects)}" for page in PAGES}


def overflow(page: Page) -> int:
    """How many pixels of the page are beside the window."""
    page.wait_for_load_state()  # with its styles
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def complaints_of(page: Page) -> list[str]:
    """What axe finds in the content of the page."""
    found = axe.Axe().run(page, context=CONTENT, options=RULES).response["violations"]
    return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("width", [1280, 400])
def test_pages_fit_their_window_and_break_no_rule_of_axe(
    page_of: PageFactory, operator: User, addresses: dict[str, str], complaints: Complaints, width: int
):
    complaints.expected.append("inline style")  # axe's own; the next test loads the pages without it
    page = page_of(operator, width=width)
    problems: dict[str, Any] = {}
    for name, address in addresses.items():
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, name
        if (beside := overflow(page)) > 0:
            problems[f"{name} overflow"] = beside
        if found := complaints_of(page):
            problems[name] = found
    assert problems == {}


@pytest.mark.parametrize("javascript", [True, False])
def test_pages_obey_a_strict_policy_and_can_be_read_without_script(
    page_of: PageFactory, operator: User, addresses: dict[str, str], javascript: bool
):
    page = page_of(operator, javascript=javascript)
    for name, address in addresses.items():
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, name
        assert page.locator("#content").inner_text().strip(), name


@pytest.mark.parametrize(("width", "javascript"), [(1280, True), (400, False)])
def test_a_person_chooses_the_time_zone(
    page_of: PageFactory, operator: User, complaints: Complaints, width: int, javascript: bool
):
    complaints.expected.append("inline style")  # axe's own
    complaints.expected.append("400 (Bad Request)")
    build_row(trigger_time=datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    page = page_of(operator, width=width, javascript=javascript)
    page.goto(f"{APP}reportqueue/?status=queued")
    page.get_by_role("link", name="Change the time zone").click()
    page.get_by_label("Time zone", exact=True).fill("Europe/Atlantis")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#rq-zone-problem")).to_contain_text("is not a time zone")
    assert overflow(page) == 0
    if javascript:
        assert complaints_of(page) == []
    page.get_by_label("Time zone", exact=True).fill("Europe/Paris")
    page.get_by_role("button", name="Use it").click()
    expect(page).to_have_url(re.compile(r"/reportqueue/reportqueue/\?status=queued$"))
    expect(page.locator("#rq-times")).to_contain_text("Times are in Europe/Paris.")
    expect(page.locator(".field-due")).to_contain_text("2026-10-25 02:30:00+01:00")
    expect(page.locator(".field-due")).to_contain_text("2026-10-25 01:30:00 UTC")
    assert overflow(page) == 0


def test_an_operator_finds_the_errors_and_requeues_a_group(
    page_of: PageFactory, operator: User, addresses: dict[str, str]
):
    page = page_of(operator)
    page.goto(APP)
    page.get_by_role("link", name="All failures: requeue or mute a group").click()
    page.get_by_role("link", name="Requeue all…").first.click()
    page.get_by_label("Reason").fill("the source is back")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#rq-done")).to_contain_text("done")
    while BulkAction.objects.filter(status__in=OPEN).exists():  # as the scheduler does: pass after pass
        bulk.step(1)
    expect(page.locator("#rq-done")).to_contain_text("Finished", timeout=30_000)
    assert ReportQueue.objects.filter(status=Status.QUEUED, queued_by="").exists()


def test_the_failures_fit_beside_the_sidebar_and_their_links_stand_apart(page_of: PageFactory, operator: User):
    for number, name in enumerate(("Monthly statement of accounts", "Weather of the northern regions"), start=1):
        Report(report_id=number, name=name).save()
        error = "requests.exceptions.ConnectionError: the exchange does not answer within its time"
        failure = failures.read(error)
        build_row(status=Status.FAILED, report_id=number, error=error, fingerprint=failure.fingerprint)
    page = page_of(operator)
    page.goto(f"{APP}reportqueue/failures/")
    page.wait_for_load_state()
    box = "document.querySelector('.rq-scroll')"
    assert page.evaluate(f"{box}.scrollWidth - {box}.clientWidth") == 0
    row, requeue = (page.get_by_role("link", name=name).bounding_box() for name in ("Newest row", "Requeue all…"))
    assert row is not None
    assert requeue is not None
    assert requeue["y"] >= row["y"] + row["height"] or requeue["x"] >= row["x"] + row["width"] + 8
