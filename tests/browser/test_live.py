"""Live pages in a browser: they follow the queue, and leave alone what a person is doing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from reportqueue import queue
from reportqueue.admin.viewer_zone import COOKIE
from reportqueue.models import ReportAttempt, ReportQueue
from reportqueue.states import Status
from tests.browser.conftest import Complaints, PageFactory, playwright_api
from tests.conftest import build_row, build_schedule

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = playwright_api().expect
QUEUE = "/admin/reportqueue/reportqueue/"
SCHEDULES = "/admin/reportqueue/reportschedule/"


def elsewhere(call: Any, *args: Any, **kwargs: Any) -> Any:
    """Call it in another thread, and so through another connection."""

    def called() -> Any:
        try:
            return call(*args, **kwargs)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(called).result()


def box(page: Page, row: ReportQueue) -> Any:
    """The checkbox of a row of the list."""
    return page.locator(f'input.action-select[value="{row.pk}"]')


def hide(page: Page, state: str) -> None:
    """Bring the tab to the back or to the front, as far as the page notices."""
    page.evaluate(
        """state => {
            Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        state,
    )


def asked(page: Page) -> list[str]:
    """The addresses below the admin that the page asks from now on."""
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url) if "/admin/" in request.url else None)
    return addresses


def test_the_list_shows_a_row_that_another_connection_enqueues(page_of: PageFactory, operator: User):
    build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    expect(page.locator("#result_list")).to_contain_text("4711")
    expect(page.locator("#rq-pagination")).to_contain_text("2 queued reports")


def test_ticked_boxes_focus_and_the_counter_survive(page_of: PageFactory, operator: User):
    rows = [build_row() for _ in range(3)]
    page = page_of(operator)
    page.goto(QUEUE)
    box(page, rows[1]).check()
    expect(page.locator(".action-counter")).to_have_text("1 of 3 selected")
    new = elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    expect(page.locator("#result_list tbody tr")).to_have_count(4)
    expect(box(page, rows[1])).to_be_checked()
    expect(box(page, rows[1])).to_be_focused()
    expect(page.locator(".action-counter")).to_have_text("1 of 4 selected")
    box(page, new).check()
    expect(page.locator(".action-counter")).to_have_text("2 of 4 selected")
    page.locator("#action-toggle").check()
    expect(page.locator(".action-counter")).to_have_text("4 of 4 selected")
    page.locator("#action-toggle").uncheck()
    box(page, new).check()
    page.locator('select[name="action"]').select_option("cancel_selected")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".messagelist .success")).to_have_text("1 report cancelled.")
    new.refresh_from_db()
    assert new.status == Status.CANCELLED


def test_a_list_that_was_empty_gets_its_rows_with_boxes_that_work(page_of: PageFactory, operator: User):
    page = page_of(operator)
    page.goto(QUEUE)
    expect(page.locator(".rq-empty")).to_be_visible()
    row = elsewhere(queue.enqueue, report_id=1, modifier_id=1)
    box(page, row).check()
    expect(page.locator(".action-counter")).to_have_text("1 of 1 selected")


def test_a_message_stays_and_a_warning_comes_and_goes(page_of: PageFactory, operator: User):
    row = build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    box(page, row).check()
    page.locator('select[name="action"]').select_option("cancel_selected")
    page.get_by_role("button", name="Go").click()
    pause = elsewhere(queue.pause, by="ada")
    warning = page.locator("#rq-standing .warning", has_text="The queue is paused")
    expect(warning).to_be_visible()
    expect(page.locator(".messagelist .success")).to_have_text("1 report cancelled.")
    assert pause is not None
    elsewhere(queue.resume)
    expect(warning).to_be_hidden()
    expect(page.locator(".messagelist .success")).to_have_text("1 report cancelled.")


def test_the_button_stops_and_starts_the_updates_by_the_keyboard(page_of: PageFactory, operator: User):
    build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    page.get_by_role("button", name="Stop updating").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Not updated")
    addresses = asked(page)
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    page.wait_for_timeout(3_000)
    assert addresses == []
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.get_by_role("button", name="Update again")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


def test_a_hidden_tab_asks_nothing_and_follows_when_it_is_seen_again(page_of: PageFactory, operator: User):
    build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    expect(page.get_by_role("status")).to_have_text("Live")
    page.wait_for_timeout(2_500)  # the stream's first event
    hide(page, "hidden")
    addresses = asked(page)
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    page.wait_for_timeout(3_000)
    assert addresses == []
    hide(page, "visible")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


def test_the_list_waits_while_its_text_is_selected(page_of: PageFactory, operator: User):
    row = build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#result_list tbody'))")
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    expect(page.locator("#rq-pagination")).to_contain_text("2 queued reports")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    expect(box(page, row)).to_have_count(1)


def test_a_reason_that_is_being_written_stays(page_of: PageFactory, operator: User):
    build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    reason = page.locator('.actions input[name="reason"]')
    reason.fill("not wanted")
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    page.wait_for_timeout(3_500)
    expect(reason).to_have_value("not wanted")
    expect(reason).to_be_focused()
    page.locator("body").click(position={"x": 5, "y": 5})
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    expect(reason).to_have_value("not wanted")


def test_a_row_s_page_follows_it_to_its_end(page_of: PageFactory, operator: User):
    row = build_row(status=Status.RUNNING)
    ReportAttempt.objects.create(
        queue=row, generation=1, attempt=1, run_id="earlier", lease_token="0b1f2c3d-0000-4000-8000-000000000001",
        started_at=row.started_at, finished_at=row.started_at, outcome="failed", error="Traceback\nValueError: no",
    )  # fmt: skip
    page = page_of(operator)
    page.goto(f"{QUEUE}{row.pk}/change/")
    expect(page.get_by_role("status")).to_have_text("Live")
    page.locator(".field-attempts summary").click()
    elsewhere(queue.complete, row.pk, lease_token=row.lease_token, result={"rows": 42})
    # No notification tells of an end: the page asks every 10 s.
    expect(page.locator(".field-status_now")).to_contain_text("Succeeded", timeout=20_000)
    expect(page.locator(".field-timeline")).to_contain_text("finished")
    expect(page.locator(".field-attempts details")).to_have_attribute("open", "")
    expect(page.get_by_role("button", name="Requeue")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("No longer live: nothing changes here any more.")
    expect(page.locator("#rq-live button")).to_be_hidden()


def test_the_list_of_schedules_follows_an_edit(page_of: PageFactory, operator: User):
    schedule = build_schedule()
    page = page_of(operator)
    page.goto(SCHEDULES)
    expect(page.locator(".field-state_in_short")).to_contain_text("Enabled", ignore_case=True)

    def pause() -> None:
        schedule.enabled, schedule.pause_note = False, "for the holidays"
        schedule.save()

    elsewhere(pause)
    expect(page.locator(".field-state_in_short")).to_contain_text("for the holidays")


def test_a_live_list_keeps_the_zone_and_follows_another_choice(page_of: PageFactory, operator: User):
    due = datetime(2035, 6, 1, 1, 30, tzinfo=UTC)
    page = page_of(operator)

    def choose(zone: str) -> None:
        page.context.add_cookies([{"name": COOKIE, "value": zone, "url": page.url}])

    page.goto(QUEUE)
    choose("Asia/Kolkata")
    page.goto(QUEUE)
    expect(page.get_by_role("status")).to_have_text("Live")
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1, trigger_time=due)
    expect(page.locator(".field-due")).to_contain_text("2035-06-01 07:00:00+05:30")
    choose("Europe/Paris")
    elsewhere(queue.enqueue, report_id=4712, modifier_id=1, trigger_time=due)
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    expect(page.locator(".field-due").first).to_contain_text("2035-06-01 03:30:00+02:00")
    expect(page.locator("#rq-times")).to_contain_text("Times are in Europe/Paris.")


def test_without_javascript_the_list_works(page_of: PageFactory, operator: User):
    row = build_row()
    page = page_of(operator, javascript=False)
    page.goto(QUEUE)
    expect(page.locator("#rq-live")).to_be_hidden()
    box(page, row).check()
    page.locator('select[name="action"]').select_option("cancel_selected")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".messagelist .success")).to_have_text("1 report cancelled.")


def test_two_people_see_what_one_of_them_does(page_of: PageFactory, operator: User):
    row = build_row()
    other = User.objects.create_superuser("ada")
    one, two = page_of(operator), page_of(other)
    for page in (one, two):
        page.goto(QUEUE)
        expect(page.get_by_role("status")).to_have_text("Live")
    box(one, row).check()
    one.locator('select[name="action"]').select_option("cancel_selected")
    one.get_by_role("button", name="Go").click()
    expect(one.locator(".field-status_and_error")).to_contain_text("Cancelled")
    expect(two.locator(".field-status_and_error")).to_contain_text("Cancelled", timeout=20_000)


def test_a_page_whose_person_is_logged_out_stops_and_says_so(
    page_of: PageFactory, operator: User, complaints: Complaints
):
    complaints.expected.append("Failed to load resource")
    # On a slow machine the stream is opened again before the page stops: it gets the login page.
    complaints.expected.append("EventSource's response has a MIME type")
    build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    expect(page.get_by_role("status")).to_have_text("Live")
    operator.is_active = False
    operator.save()
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    expect(page.get_by_role("status")).to_contain_text("you are logged out")
    addresses = asked(page)
    elsewhere(queue.enqueue, report_id=4712, modifier_id=1)
    time.sleep(2)
    page.wait_for_timeout(2_000)
    assert addresses == []


def test_a_page_goes_on_when_the_server_answers_again(page_of: PageFactory, operator: User, complaints: Complaints):
    complaints.expected.append("Failed to load resource")
    build_row()
    page = page_of(operator)
    page.goto(QUEUE)
    expect(page.get_by_role("status")).to_have_text("Live")
    page.route("**/admin/reportqueue/**", lambda route: route.fulfill(status=502))
    elsewhere(queue.enqueue, report_id=4711, modifier_id=1)
    expect(page.get_by_role("status")).to_contain_text("the server does not answer")
    page.unroute("**/admin/reportqueue/**")
    expect(page.get_by_role("status")).to_have_text("Live")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


@pytest.mark.parametrize("width", [380, 1280])
def test_the_pages_have_no_errors(page_of: PageFactory, operator: User, width: int):
    row = build_row(schedule=build_schedule())
    page = page_of(operator, width)
    for address in (QUEUE, f"{QUEUE}{row.pk}/change/", SCHEDULES, f"{SCHEDULES}{row.schedule_id}/change/"):
        page.goto(address)
        expect(page.locator("#content h1")).to_be_visible()
