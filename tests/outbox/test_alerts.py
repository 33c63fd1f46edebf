"""Alerts: what rules find becomes messages, grouped, once for each thing and once for its end."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend
from django.db import connection, connections
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reportqueue import outbox, queue, schedules, triggers
from reportqueue.models import (
    Alert,
    AlertRule,
    AuditEntry,
    OutboxEvent,
    Report,
    ReportConsumer,
    ReportQueue,
    WebhookSubscription,
)
from reportqueue.outbox import alerts, messages
from reportqueue.patterns import Pattern
from reportqueue.states import Status
from tests.concurrency import at_once
from tests.conftest import build_row, minutes_ago

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = "/admin/reportqueue/alertrule/"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(alerts, "GROUP_SECONDS", 0)
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "SITE_URL": "https://reports.example.com/"}


def rule(condition: str, **fields: Any) -> AlertRule:
    made = AlertRule(condition=condition, **{"name": f"rule {condition}", "emails": ["desk@example.com"], **fields})
    made.save()
    return made


def fail(report_id: int = 1, due: float = 1) -> None:
    row = build_row(
        status=Status.RUNNING, attempt=1, max_attempts=1, report_id=report_id, trigger_time=minutes_ago(due)
    )
    queue.fail(row.pk, lease_token=row.lease_token, error="ValueError: no data")


def succeed(report_id: int = 1) -> None:
    row = build_row(status=Status.RUNNING, report_id=report_id, trigger_time=minutes_ago(0))
    queue.complete(row.pk, lease_token=row.lease_token)


def told() -> list[str]:
    """The subjects of the messages since the last call."""
    outbox.watch()
    alerts.step()
    found = [str(one.subject) for one in mail.outbox]
    mail.outbox.clear()
    return found


def quiet_is_over() -> None:
    Alert.objects.exclude(told_at=None).update(told_at=timezone.now() - timedelta(hours=2))


def test_a_failed_report_is_told_once_then_grouped_then_its_recovery():
    rule("failed")
    fail()
    alerts.step()
    (message,) = mail.outbox
    assert message.to == ["desk@example.com"]
    assert message.subject == "[reportqueue] A report failed for good: #1 (rule failed)"
    assert "ValueError: no data" in message.body
    assert "https://reports.example.com/admin/reportqueue/reportqueue/?status=failed&q=report:1" in message.body
    mail.outbox.clear()
    fail()
    fail()
    assert told() == [], "within the quiet period"
    quiet_is_over()
    alerts.step()
    assert "(2 times)" in mail.outbox[0].body
    mail.outbox.clear()
    succeed()
    alerts.step()
    (message,) = mail.outbox
    assert message.subject == "[reportqueue] Over: A report failed for good: #1 (rule failed)"
    assert re.search(r"- Until 20\d\d-\d\d-\d\d \d\d:\d\d UTC: row \d+ of report 1, modifier 2: ", message.body)
    mail.outbox.clear()
    assert told() == []
    assert not Alert.objects.exists()
    fail(due=-1)
    assert told() == ["[reportqueue] A report failed for good: #1 (rule failed)"], "it begins anew, at once"


def test_failures_of_several_reports_are_one_message():
    rule("failed")
    for report_id in range(1, 31):
        fail(report_id)
    alerts.step()
    (message,) = mail.outbox
    assert message.body.count("ValueError") == messages.SHOWN
    assert "and 10 more" in message.body


def test_a_message_waits_for_others_of_its_group(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alerts, "GROUP_SECONDS", 60)
    rule("failed")
    fail()
    assert told() == []
    Alert.objects.update(since=minutes_ago(2))
    assert len(told()) == 1


def test_only_the_reports_of_a_rule_count():
    rule("failed", report_ids=[7])
    fail(1)
    assert told() == []
    fail(7)
    assert len(told()) == 1


def test_failures_in_a_row_are_told_from_the_chosen_number_on():
    rule("in_a_row", in_a_row=3)
    for due in (9, 8):
        fail(due=due)
    assert told() == []
    build_row(status=Status.SUCCEEDED, trigger_time=minutes_ago(7))
    for due in (6, 5):
        fail(due=due)
    assert told() == [], "a success between them"
    fail(due=4)
    assert told() == ["[reportqueue] A report failed several times in a row: #1 (rule in_a_row)"]
    succeed()
    assert told() == ["[reportqueue] Over: A report failed several times in a row: #1 (rule in_a_row)"]


def test_late_overdue_silent_and_a_backlog_are_told_with_their_end(make_schedule):
    for condition in ("late", "overdue", "silent"):
        rule(condition)
    rule("backlog", waited_seconds=600)
    triggers.saw(Pattern.QUEUE, "sensor")
    assert told() == []
    build_row(deadline_at=minutes_ago(1), available_at=minutes_ago(20), report_id=3)
    make_schedule(next_run_at=minutes_ago(60))
    ReportConsumer.objects.update(seen_at=minutes_ago(60))
    assert sorted(told()) == [
        "[reportqueue] A report missed its deadline: #3 (rule late)",
        "[reportqueue] A schedule is overdue: #1 (rule overdue)",
        "[reportqueue] Nobody claims reports (rule silent)",
        "[reportqueue] Reports have waited for long (rule backlog)",
    ]
    assert told() == []
    schedules.enqueue_due()
    for pk in ReportQueue.objects.filter(status=Status.QUEUED).values_list("pk", flat=True):
        queue.mark_processed(pk)
    triggers.saw(Pattern.QUEUE, "sensor")
    assert len(told()) == 4
    assert not Alert.objects.exists()


def test_the_subject_names_reports_and_counts_the_others():
    rule("failed")
    Report.objects.create(report_id=2, name="Weather")
    for report_id in (5, 2, 9, 4, 7):
        fail(report_id)
    assert told() == ["[reportqueue] A report failed for good: Weather (2), #4, #5, +2 (rule failed)"]


def test_a_backlog_is_told_with_its_size_and_the_pause_that_holds_it():
    rule("backlog", waited_seconds=600)
    Report.objects.create(report_id=2, name="Weather")
    rows = [build_row(report_id=2, available_at=minutes_ago(20)) for _ in range(3)]
    build_row(report_id=3)
    alerts.step()
    assert f"3 rows wait, such as row {rows[0].pk} of report Weather (2); it has waited since " in mail.outbox[0].body
    Alert.objects.all().delete()
    mail.outbox.clear()
    queue.pause(report_id=2)
    alerts.step()
    assert "of report Weather (2), which is paused; it has waited" in mail.outbox[0].body


def begin_trouble(make_schedule) -> None:
    """A schedule of report 3 is overdue, nobody claims, and a row has waited for long."""
    make_schedule(report_id=3, next_run_at=minutes_ago(60))
    build_row(available_at=minutes_ago(20))


def end_trouble() -> None:
    schedules.enqueue_due()
    for pk in ReportQueue.objects.filter(status=Status.QUEUED).values_list("pk", flat=True):
        queue.mark_processed(pk)
    triggers.saw(Pattern.QUEUE, "sensor")


@pytest.mark.parametrize("first", ["rule", "subscription"])
@pytest.mark.parametrize("condition", ["overdue", "silent", "backlog"])
def test_a_rule_that_is_added_later_is_told_of_what_lasts(make_schedule, subscribe, condition: str, first: str):
    begin_trouble(make_schedule)
    if first == "rule":
        rule(condition)
    else:
        subscribe(event_types=["schedule.overdue", "consumers.silent"], report_ids=[7])
    outbox.watch()
    alerts.step()
    mail.outbox.clear()
    events = OutboxEvent.objects.count()
    AlertRule(name="later", condition=condition, emails=["later@example.com"]).save()
    outbox.watch()
    outbox.watch()
    alerts.step()
    (message,) = mail.outbox
    assert (message.to, "times" in message.body) == (["later@example.com"], False)
    assert OutboxEvent.objects.count() == events, "it is not told to others again"
    mail.outbox.clear()
    assert told() == []
    end_trouble()
    assert {one.startswith("[reportqueue] Over: ") for one in told()} == {True}
    assert not Alert.objects.exists()


@pytest.mark.parametrize("condition", ["overdue", "silent", "backlog"])
def test_a_rule_that_is_enabled_later_is_told_of_what_lasts(make_schedule, condition: str):
    rule(condition, name="another")
    begin_trouble(make_schedule)
    one = rule(condition, enabled=False)
    assert len(told()) == 1
    one.enabled = True
    one.save()
    assert len(told()) == 1
    one.enabled = False
    one.save(update_fields=["enabled"])
    one.enabled = True
    one.save(update_fields=["enabled"])
    assert len(told()) == 1, "it begins anew"
    assert told() == []


def test_what_lasts_counts_once_if_its_event_comes_after_it_was_seen(make_schedule):
    rule("overdue")
    begin_trouble(make_schedule)
    outbox.watch()
    outbox.watch()  # the event waits still: the rule is told of what lasts
    assert Alert.objects.get().untold == 1
    alerts.step()
    (message,) = mail.outbox
    assert "times" not in message.body


def test_a_rule_that_is_about_something_else_now_forgets_what_it_has_found(make_schedule):
    one = rule("overdue")
    begin_trouble(make_schedule)
    assert len(told()) == 1
    one.report_ids = [7]
    one.save()
    assert told() == []
    assert not Alert.objects.exists(), "it would not learn of the end"
    one.report_ids = [3, 7]
    one.save()
    assert len(told()) == 1
    one.condition = "silent"
    one.save()
    assert told() == ["[reportqueue] Nobody claims reports (rule overdue)"]
    assert Alert.objects.count() == 1


def test_an_edit_of_the_recipients_begins_nothing_anew(make_schedule):
    one = rule("overdue")
    begin_trouble(make_schedule)
    assert len(told()) == 1
    one.emails = ["desk@example.com", "other@example.com"]
    one.save()
    assert told() == []


def test_events_are_written_for_what_rules_need_and_for_nothing_else():
    one = rule("failed")
    succeed()
    fail()
    assert [event.type for event in OutboxEvent.objects.all()] == ["report.failed"]
    one.enabled = False
    one.save()
    fail()
    assert OutboxEvent.objects.count() == 1
    one.enabled = True
    one.save()
    two = rule("late")
    assert WebhookSubscription.objects.get().event_types == ["report.failed", "report.late"]
    one.delete()
    two.delete()
    assert not WebhookSubscription.objects.get().enabled


def test_the_subscription_of_the_rules_is_nobodys_to_see_or_to_send_to(admin_client: Client, client_with):
    rule("failed")
    fail()
    assert outbox.Deliverer().step() is False
    one = WebhookSubscription.objects.get()
    api = client_with("view_webhooksubscription", "change_webhooksubscription", "view_eventdelivery")
    assert api.get("/api/webhook-subscriptions/").json()["subscriptions"] == []
    assert api.get("/api/webhook-deliveries/").json()["deliveries"] == []
    assert api.post(f"/api/webhook-subscriptions/{one.pk}/rotate/", {}, format="json").status_code == 404
    assert admin_client.get(f"/admin/reportqueue/webhooksubscription/{one.pk}/change/").status_code == 302


def test_a_message_that_cannot_be_sent_is_tried_again_and_its_rule_says_why(settings: Any, monkeypatch: Any):
    one = rule("failed")
    fail()

    def refuse(*args: Any) -> None:
        raise OSError("the mail server is away")

    with monkeypatch.context() as broken:
        broken.setattr(messages, "_mail", refuse)
        assert told() == []
    one.refresh_from_db()
    assert "the mail server is away" in one.problem
    assert told() == [], "not at once"
    AlertRule.objects.update(retry_at=None)
    assert len(told()) == 1
    one.refresh_from_db()
    assert (one.problem, one.sent_at is not None) == ("", True)


@pytest.fixture
def silent_server(settings: Any) -> Iterator[socket.socket]:
    """A mail server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.getsockname()
        server.settimeout(20)
        yield server


def test_a_mail_server_that_says_nothing_does_not_keep_the_process_from_stopping(
    silent_server: socket.socket, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.EMAIL_TIMEOUT = None
    monkeypatch.setattr(messages, "MAIL_SECONDS", 0.5)
    one, stop = rule("failed"), threading.Event()
    rule("late", name="the next", test_wanted=True)
    fail()

    def work() -> None:
        outbox.work(stop)
        connections.close_all()

    working = threading.Thread(target=work, daemon=True)
    working.start()
    with silent_server.accept()[0]:
        stop.set()
        working.join(20)
        assert not working.is_alive()
    one.refresh_from_db()
    assert "TimeoutError" in one.problem or "timed out" in one.problem
    assert AlertRule.objects.get(name="the next").problem == "", "no further message is begun"


@pytest.mark.parametrize(("setting", "expected"), [(None, messages.MAIL_SECONDS), (3, 3), (0.5, 0.5)])
def test_the_time_of_the_settings_is_kept(setting: Any, expected: float, settings: Any, monkeypatch: Any):
    settings.EMAIL_BACKEND, settings.EMAIL_TIMEOUT = "django.core.mail.backends.smtp.EmailBackend", setting
    used: list[Any] = []
    monkeypatch.setattr(SmtpBackend, "send_messages", lambda link, several: used.append(link.timeout))
    rule("failed")
    fail()
    told()
    assert used == [expected]


def test_whoever_got_a_message_does_not_get_it_again_since_another_way_fails(settings: Any):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "ALERT_CHANNELS": {"ops": "nothing"}}
    one = rule("failed", channels=["ops"])
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "ALERT_CHANNELS": {}}
    fail()
    assert len(told()) == 1
    AlertRule.objects.update(retry_at=None)
    assert told() == []
    one.refresh_from_db()
    assert "ALERT_CHANNELS has no ops" in one.problem


def test_what_fails_while_a_message_is_sent_is_in_the_next_one(monkeypatch: pytest.MonkeyPatch):
    rule("failed", quiet_seconds=0)
    fail()
    send = messages.send

    def meanwhile(*args: Any) -> str:
        problem = send(*args)
        monkeypatch.setattr(messages, "send", send)
        fail()
        alerts._take_in()
        return problem

    monkeypatch.setattr(messages, "send", meanwhile)
    assert len(told()) == 1
    assert len(told()) == 1, "the second failure is not lost"


def test_a_message_says_how_often_it_failed_while_the_one_before_was_sent(monkeypatch: pytest.MonkeyPatch):
    rule("failed", quiet_seconds=0)
    fail()
    send = messages.send

    def meanwhile(*args: Any) -> str:
        monkeypatch.setattr(messages, "send", send)
        for _ in range(5):
            fail()
        alerts._take_in()
        return send(*args)

    monkeypatch.setattr(messages, "send", meanwhile)
    alerts.step()
    mail.outbox.clear()
    alerts.step()
    assert "(5 times)" in mail.outbox[0].body


def test_a_message_that_takes_minutes_to_send_is_not_sent_by_two_processes(monkeypatch: pytest.MonkeyPatch):
    rule("failed")
    fail()
    send = messages.send

    def slowly(*args: Any) -> str:
        monkeypatch.setattr(messages, "send", send)
        AlertRule.objects.update(retry_at=F("retry_at") - timedelta(seconds=200))
        alerts.step()  # of the other process, meanwhile
        return send(*args)

    monkeypatch.setattr(messages, "send", slowly)
    assert len(told()) == 1


def test_a_failed_report_that_is_requeued_is_not_over_until_it_has_succeeded():
    rule("failed")
    build_row(status=Status.SUCCEEDED, trigger_time=minutes_ago(1440), finished_at=minutes_ago(1439))
    fail(1)
    fail(2)
    assert len(told()) == 1
    rows = list(ReportQueue.objects.filter(status=Status.FAILED))
    for row in rows:
        queue.requeue(row.pk)
    assert told() == []
    for row in rows:
        queue.mark_processed(row.pk)
    assert told() == ["[reportqueue] Over: A report failed for good: #1, #2 (rule failed)"]
    assert not Alert.objects.exists()


def test_an_old_failure_does_not_hide_that_another_is_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alerts, "MOST_OVER", 2)
    rule("failed")
    for report_id in range(1, 6):
        fail(report_id)
    assert len(told()) == 1
    for report_id in (3, 4, 5):
        succeed(report_id)
    told()
    told()
    assert list(Alert.objects.values_list("report_id", flat=True)) == [1, 2]


def test_many_troubles_are_told_and_looked_at_in_few_statements():
    rule("failed")

    def statements() -> int:
        with CaptureQueriesContext(connection) as seen:
            alerts.step()
        return len(seen)

    fail(1)
    alerts._take_in()
    few = statements()
    for report_id in range(2, 32):
        fail(report_id)
    alerts._take_in()
    assert statements() == few


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_channels_go_to_apprise_by_their_names_in_the_settings(settings: Any, monkeypatch: pytest.MonkeyPatch):
    apprise = pytest.importorskip("apprise")
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "ALERT_CHANNELS": {"ops": "json://127.0.0.1:9/"}}
    sent: list[Any] = []
    monkeypatch.setattr(apprise.Apprise, "notify", lambda self, **given: sent.append((len(self), given)) or True)
    rule("failed", emails=[], channels=["ops"])
    fail()
    alerts.step()
    ((count, given),) = sent
    assert count == 1, "each channel is told by itself"
    assert given["title"].startswith("[reportqueue]")
    assert given["body_format"] == "text", "an error's text is no markup"
    with pytest.raises(ValidationError, match="no nowhere"):
        rule("late", emails=[], channels=["nowhere"])
    with pytest.raises(ValidationError, match="Give an address"):
        rule("late", emails=[])


def test_a_project_can_override_the_templates(settings: Any, tmp_path: Any):
    folder = tmp_path / "reportqueue"
    folder.mkdir()
    (folder / "alert_subject.txt").write_text("Ours: {{ rule }}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]
    rule("failed")
    fail()
    assert told() == ["Ours: rule failed"]


def test_a_rule_is_made_tested_and_audited_in_the_admin(admin_client: Client):
    form = {
        "name": "desk",
        "enabled": "on",
        "condition": "failed",
        "in_a_row": 3,
        "waited_seconds": 900,
        "emails": "a@example.com, b@example.com",
        "quiet_seconds": 60,
    }
    assert admin_client.post(f"{PAGES}add/", {**form, "emails": ""}).context["errors"]
    admin_client.post(f"{PAGES}add/", form)
    one = AlertRule.objects.get()
    assert one.emails == ["a@example.com", "b@example.com"]
    page = admin_client.get(f"{PAGES}{one.pk}/change/").content.decode()
    assert "Send a test message" in page
    admin_client.post(f"{PAGES}{one.pk}/test/")
    assert told() == ["[reportqueue] Test of desk (desk)"]
    assert told() == []
    fail()
    alerts.step()
    assert "ValueError" in admin_client.get(f"{PAGES}{one.pk}/change/").content.decode()
    assert list(AuditEntry.objects.filter(kind="alert").values_list("action", flat=True)) == ["test", "add"]


RULES = "/api/alert-rules/"
BODY = {"name": "desk", "condition": "in_a_row", "in_a_row": 2, "emails": ["a@example.com"]}


def test_the_api_adds_changes_tests_and_deletes_a_rule(client_with):
    api = client_with("view_alertrule", "add_alertrule", "change_alertrule", "delete_alertrule")
    answer = api.post(RULES, BODY, format="json")
    made = answer.json()
    assert (answer.status_code, made["in_a_row"], made["quiet_seconds"], made["enabled"]) == (201, 2, 3600, True)
    address = f"{RULES}{made['rule_id']}/"
    assert api.get(RULES).json() == {"alert_rules": [made], "next": None, "previous": None}
    assert WebhookSubscription.objects.get().event_types == ["report.failed"]
    tested = api.post(f"{address}test/", {}, format="json")
    assert (tested.status_code, tested.json()["test_wanted"]) == (202, True)
    assert told() == ["[reportqueue] Test of desk (desk)"]
    sent = api.get(address).json()
    assert (sent["test_wanted"], sent["problem"], sent["sent_at"] is None) == (False, "", False)
    changed = api.patch(address, {"condition": "late", "enabled": False}, format="json").json()
    assert (changed["condition"], changed["enabled"], changed["sent_at"]) == ("late", False, sent["sent_at"])
    refused = api.post(f"{address}test/", {}, format="json")
    assert (refused.status_code, refused.json()["type"]) == (409, "delivery-refused")
    assert api.delete(address).status_code == 204
    assert api.get(address).status_code == api.post(f"{address}test/", {}, format="json").status_code == 404
    told_of = AuditEntry.objects.filter(kind="alert").order_by("id")
    assert list(told_of.values_list("action", "via")) == [
        *(("add", "api"), ("test", "api"), ("change", "api"), ("delete", "api"))
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "known"),
        ("name", ""),
        ("condition", "never"),
        ("in_a_row", 1),
        ("in_a_row", 101),
        ("waited_seconds", 59),
        ("quiet_seconds", -1),
        ("quiet_seconds", 2**40),
        ("report_ids", [-1]),
        ("report_ids", list(range(101))),
        ("emails", []),
        ("emails", ["nobody"]),
        ("emails", [f"{number}@example.com" for number in range(21)]),
        ("channels", ["nowhere"]),
        ("channels", ["x" * 51]),
        ("problem", "none"),
        ("test_wanted", True),
        ("subject", "ours"),
    ],
)
def test_the_api_refuses_a_rule_that_is_out_of_bounds_and_names_the_field(client_with, field: str, value: Any):
    api = client_with("add_alertrule", "change_alertrule")
    rule("failed", name="known")
    answer = api.post(RULES, {**BODY, field: value}, format="json")
    assert answer.status_code == 400
    assert any(name.startswith(field) for name in answer.json()["errors"]), answer.json()
    other = rule("failed", name="other")
    assert api.patch(f"{RULES}{other.pk}/", {field: value}, format="json").status_code == 400


def test_of_two_rules_with_one_name_that_are_added_at_once_one_is_refused(client_with):
    api = client_with("add_alertrule")
    codes = at_once([lambda: api.post(RULES, BODY, format="json").status_code] * 4)
    assert sorted(codes) == [201, 400, 400, 400]


def test_messages_are_in_the_language_of_the_project(settings: Any):
    settings.LANGUAGE_CODE = "de"
    rule("failed")
    fail()
    assert told() == ["[reportqueue] Ein Bericht ist endgültig fehlgeschlagen: #1 (rule failed)"]
