"""Instants in the admin by the viewer's clock, with UTC beside it: how a person chooses it, and what all pages show."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from reportqueue import bulk, outbox, queue, tokens
from reportqueue.admin import formats, viewer_zone
from reportqueue.admin.viewer_zone import COOKIE
from reportqueue.models import AlertRule, ReportQueue, ReportSchedule, WebhookSubscription
from reportqueue.states import Status
from tests.conftest import RowFactory
from tests.integration.test_admin_permissions import (
    QUEUE,
    SCHEDULES,
    ScheduleFactory,
    messages_of,
    queries_of,
    staff,
    text_of,
)
from tests.integration.test_failure_groups import failed

APP = "/admin/reportqueue/"
ZONE = f"{QUEUE}zone/"
DUE = datetime(2026, 6, 1, 23, 30, tzinfo=UTC)
IN_UTC = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?) UTC")
WITHOUT_INSTANTS = re.compile("/backfill/$")
"""The addresses of pages whose only instants are inputs."""


def in_zone(zone: str, client: Client) -> Client:
    """The browser of a person who has chosen this zone."""
    client.cookies[COOKIE] = zone
    return client


def words_of(response: Any) -> str:
    """The content of the page without tags, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", text_of(response).partition('id="content"')[2]).split())


@pytest.fixture
def pages(admin_client: Client, make_row: RowFactory, make_schedule: ScheduleFactory) -> list[str]:
    """The address of each page that shows instants, on a day on which something has happened."""
    schedule = make_schedule(start_at=DUE, timezone="America/New_York")
    make_schedule(modifier_id=9)
    queue.requeue(make_row(status=Status.FAILED, schedule=schedule, trigger_time=DUE).pk)
    row = failed("ValueError: no", trigger_time=DUE)
    issued = tokens.issue(User.objects.get(username="admin"), name="shop")
    tokens.authenticate(issued.key)
    token = issued.token
    queue.pause(route="finance", by="anna")
    subscription = WebhookSubscription(url="https://example.com/", event_types=["report.failed"], failing_since=DUE)
    subscription.save()
    delivery = outbox.send_test(subscription.pk)
    delivery.log.create(status_code=500, milliseconds=12, answer="no")
    rule = AlertRule.objects.create(name="desk", condition="late", emails=["desk@example.com"], sent_at=DUE)
    started = bulk.start("requeue", {"status": ["failed"], "trigger_time_after": "2026-06-01T23:30:00Z"}, by="anna")
    action = {"action": "pause_selected", "index": 0, "_selected_action": [schedule.pk]}
    admin_client.post(SCHEDULES, action)
    pages = ("", "reportqueue/failures/", "bulkaction/", "auditentry/", "pause/", "apitoken/", "reportschedule/agenda/")
    own = (
        "reportqueue/", f"reportqueue/{row.pk}/change/", f"reportqueue/bulk/{started.pk}/",
        "reportqueue/bulk/?verb=requeue&status=failed", "reportqueue/enqueue/",
        "reportschedule/", f"reportschedule/{schedule.pk}/change/", f"reportschedule/{schedule.pk}/history/",
        f"reportschedule/{schedule.pk}/backfill/", f"apitoken/{token.pk}/change/", f"apitoken/{token.pk}/revoke/",
        "eventdelivery/", f"eventdelivery/{delivery.pk}/change/",
        f"webhooksubscription/{subscription.pk}/change/", f"alertrule/{rule.pk}/change/",
    )  # fmt: skip
    return [APP + page for page in (*pages, *own)]


def test_every_page_shows_the_viewer_s_clock_with_utc_beside_it(admin_client: Client, pages: list[str]):
    in_zone("Asia/Kolkata", admin_client)
    for page in pages:
        text = words_of(admin_client.get(page))
        assert "Times are in Asia/Kolkata." in text, page
        assert WITHOUT_INSTANTS.search(page) or "+05:30" in text or " IST" in text, page
        for found in IN_UTC.finditer(text):
            own = datetime.fromisoformat(found[1]) + timedelta(hours=5, minutes=30)
            by_agenda = f"{own:%a %Y-%m-%d %H:%M} IST ({found[0]})"
            assert f"{own.isoformat(' ')[: len(found[1])]}+05:30" in text or by_agenda in text, (page, found[0])


def test_in_utc_nothing_is_doubled(admin_client: Client, pages: list[str]):
    for page in pages:
        text = words_of(admin_client.get(page))
        assert "Times are in UTC." in text, page
        if "What people have done" not in text and "/auditentry/" not in page:  # the changes are as they are stored
            assert "+00:00" not in text, page
        assert not re.search(rf"\({IN_UTC.pattern}\)", text), page


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Zulu"])
def test_each_name_of_utc_is_utc(admin_client: Client, make_row: RowFactory, zone: str):
    make_row(trigger_time=DUE)
    text = words_of(in_zone(zone, admin_client).get(QUEUE))
    assert "Times are in UTC." in text
    assert text.count("2026-06-01 23:30:00") == 1


def test_the_list_has_the_viewer_s_clock_utc_and_the_schedule_s_clock(
    admin_client: Client, make_row: RowFactory, make_schedule: ScheduleFactory
):
    make_row(schedule=make_schedule(timezone="America/New_York"), trigger_time=DUE)
    text = words_of(in_zone("Europe/Paris", admin_client).get(QUEUE))
    assert "2026-06-02 01:30:00+02:00 2026-06-01 23:30:00 UTC Mon 2026-06-01 19:30 EDT" in text
    text = words_of(in_zone("America/New_York", admin_client).get(QUEUE))
    assert "2026-06-01 19:30:00-04:00 2026-06-01 23:30:00 UTC" in text
    assert "EDT" not in text, "the schedule's clock is the viewer's"


def test_the_hour_that_comes_twice_is_told_apart(admin_client: Client, make_row: RowFactory):
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    for instant in (first, first + timedelta(hours=1)):
        make_row(trigger_time=instant)
    text = words_of(in_zone("Europe/Paris", admin_client).get(QUEUE))
    assert "2026-10-25 02:30:00+02:00 2026-10-25 00:30:00 UTC" in text
    assert "2026-10-25 02:30:00+01:00 2026-10-25 01:30:00 UTC" in text


def test_sentences_of_the_queue_have_the_viewer_s_clock_too(admin_client: Client):
    pause = queue.pause(by="anna", note="until 2026-99-99 10:00 UTC")
    text = text_of(in_zone("Asia/Kolkata", admin_client).get(f"{APP}pause/"))
    own = pause.paused_at + timedelta(hours=5, minutes=30)
    assert f"paused since {own:%Y-%m-%d %H:%M}+05:30 ({pause.paused_at:%Y-%m-%d %H:%M} UTC)" in text
    assert "until 2026-99-99 10:00 UTC" in text, "not an instant"


def test_outside_of_the_pages_instants_are_in_utc():
    with viewer_zone.shown_in("Europe/Paris"):
        assert formats.instant_text(DUE) == "2026-06-02 01:30:00+02:00 (2026-06-01 23:30:00 UTC)"
    assert formats.instant_text(DUE) == "2026-06-01 23:30:00 UTC"


def test_the_export_and_the_log_stay_in_utc(admin_client: Client, make_row: RowFactory, make_schedule: ScheduleFactory):
    make_row(trigger_time=DUE)
    in_zone("Asia/Kolkata", admin_client)
    exported = b"".join(admin_client.get(f"{QUEUE}export/")).decode()  # type: ignore[call-overload]
    assert "2026-06-01T23:30:00Z" in exported
    assert "+05:30" not in exported
    schedule = make_schedule(cron="0 12 * * *")
    address = f"{SCHEDULES}{schedule.pk}/backfill/"
    span = {"start": "2026-01-01T00:00", "end": "2026-01-01T23:00"}
    counted = admin_client.post(address, span)
    admin_client.post(address, {**span, "confirmed": counted.context["fingerprint"]})
    assert "from 2026-01-01 00:00:00 to 2026-01-01 23:00:00 UTC" in LogEntry.objects.get().change_message


def test_inputs_stay_in_utc(admin_client: Client, make_schedule: ScheduleFactory):
    schedule = make_schedule(start_at=DUE)
    text = text_of(in_zone("Asia/Kolkata", admin_client).get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert 'value="23:30:00"' in text
    assert "Start (in UTC)" in text


def test_who_may_only_look_sees_the_span_of_a_schedule_by_their_clock(make_schedule: ScheduleFactory):
    schedule = make_schedule(start_at=DUE, end_at=DUE + timedelta(days=1))
    client = in_zone("Europe/Paris", staff("view_reportschedule"))
    text = words_of(client.get(f"{SCHEDULES}{schedule.pk}/change/"))
    assert "Start: 2026-06-02 01:30:00+02:00 2026-06-01 23:30:00 UTC" in text
    assert "End: 2026-06-03 01:30:00+02:00" in text


def test_without_a_choice_it_is_the_project_s_zone(admin_client: Client, make_row: RowFactory, settings: Any):
    settings.TIME_ZONE = "Europe/Paris"
    make_row(trigger_time=DUE)
    text = words_of(admin_client.get(QUEUE))
    assert "2026-06-02 01:30:00+02:00" in text
    assert "Times are in Europe/Paris." in text
    with timezone.override("Asia/Kolkata"):  # as a project's middleware does
        assert "2026-06-02 05:00:00+05:30" in words_of(admin_client.get(QUEUE))


def test_the_chosen_zone_is_remembered_and_leads_back(admin_client: Client):
    back = f"{QUEUE}?status=failed&o=5"
    link = re.search(r'href="([^"]*/zone/[^"]*)"', text_of(admin_client.get(back)))
    assert link is not None
    page = admin_client.get(link[1])
    assert f'name="next" value="{back}"' in text_of(page)
    response = admin_client.post(ZONE, {"zone": " Asia/Kolkata ", "next": back})
    assert (response.status_code, response["Location"]) == (302, back)
    cookie = response.cookies[COOKIE]
    assert (cookie.value, cookie["httponly"], cookie["samesite"], cookie["path"]) == ("Asia/Kolkata", True, "Lax", "/")
    assert cookie["max-age"] == viewer_zone.COOKIE_SECONDS
    assert not cookie["secure"]
    followed = admin_client.get(back)
    assert messages_of(followed) == ["Times are shown in Asia/Kolkata from now on."]
    assert COOKIE not in followed.cookies
    assert admin_client.post(ZONE, {"zone": "Asia/Kolkata"}, secure=True).cookies[COOKIE]["secure"]


def test_the_choice_can_be_forgotten(admin_client: Client):
    assert "Forget the choice" not in text_of(admin_client.get(ZONE))
    assert "Forget the choice" in text_of(in_zone("Asia/Kolkata", admin_client).get(ZONE))
    assert admin_client.post(ZONE, {"zone": ""}).cookies[COOKIE].value == ""
    assert "Times are in UTC." in text_of(admin_client.get(APP))


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../../etc/passwd", "<b>", "\x00", "localtime", "x" * 5_000])
def test_an_unknown_zone_is_refused_with_what_to_do(admin_client: Client, zone: str):
    response = in_zone("Asia/Kolkata", admin_client).post(ZONE, {"zone": zone, "next": QUEUE})
    assert response.status_code == 400
    assert COOKIE not in response.cookies
    text = response.content.decode()
    assert "is not a time zone. Enter a name such as Europe/Paris. Nothing was changed." in text
    assert "<b>" not in text
    assert "x" * 65 not in text
    assert 'aria-describedby="rq-zone-problem"' in text
    assert "Times are in Asia/Kolkata." in text_of(admin_client.get(APP))


@pytest.mark.parametrize("value", ["Europe/Atlantis", "../x", "x" * 3_000])
def test_a_cookie_with_an_unknown_zone_is_ignored(admin_client: Client, value: str):
    assert "Times are in UTC." in text_of(in_zone(value, admin_client).get(QUEUE))


@pytest.mark.parametrize(
    "address", ["https://elsewhere.example/", "//elsewhere.example/", "javascript:alert(1)", "", f"/{'x' * 3_000}"]
)
def test_it_leads_back_to_this_site_only(admin_client: Client, address: str):
    assert admin_client.post(ZONE, {"zone": "UTC", "next": address})["Location"] == APP


def test_a_zone_is_not_chosen_by_following_a_link(admin_client: Client):
    for address in (f"{ZONE}?zone=Asia/Kolkata", f"{SCHEDULES}agenda/?zone=Asia/Kolkata"):
        assert COOKIE not in admin_client.get(address).cookies
    assert "Times are in UTC." in text_of(admin_client.get(QUEUE))


def test_the_agenda_of_a_link_says_that_other_pages_have_another_zone(admin_client: Client):
    text = words_of(in_zone("Europe/Paris", admin_client).get(f"{SCHEDULES}agenda/?zone=Asia/Kolkata"))
    assert "Times are in Asia/Kolkata. On other pages: Europe/Paris." in text


@pytest.mark.parametrize("address", [QUEUE, SCHEDULES, APP, f"{APP}auditentry/"])
def test_a_zone_needs_no_further_statement(admin_client: Client, make_row: RowFactory, address: str):
    make_row()
    before = queries_of(admin_client, address)
    assert len(queries_of(in_zone("Asia/Kolkata", admin_client), address)) == len(before)


def test_live_parts_include_the_line_of_the_zone(admin_client: Client):
    assert 'id="rq-times" class="rq-times help" data-live' in text_of(admin_client.get(QUEUE))


def test_nobody_has_to_see_rows_to_choose(db: None):
    assert staff("view_report").get(ZONE).status_code == 200
    assert staff().get(ZONE).status_code == 403
    assert ReportQueue.objects.count() == ReportSchedule.objects.count() == 0
