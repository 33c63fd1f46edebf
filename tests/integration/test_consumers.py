"""A consumer that is expected and silent is shown: in `/status`, the log, the admin and the command."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from reportqueue import triggers
from reportqueue.clock import database_now
from reportqueue.management.commands.enqueue_due_reports import Command
from reportqueue.models import ReportConsumer, ReportSchedule, TriggerPeriod, WebhookSource
from reportqueue.patterns import Pattern
from reportqueue.triggers import consumers
from tests.concurrency import at_once
from tests.conftest import ClientFactory, RowFactory, minutes_ago

pytestmark = pytest.mark.django_db
ScheduleFactory = Callable[..., ReportSchedule]
PAGES = ["reportqueue", "reportschedule", "webhooksource"]


def own(pattern: Pattern) -> None:
    """The pattern owns all firings."""
    TriggerPeriod.objects.create(pattern=pattern)


def seen(pattern: Pattern, name: str = "somebody", minutes: float = 0) -> None:
    ReportConsumer.objects.create(pattern=pattern, name=name, seen_at=minutes_ago(minutes))


def reasons(client: Client) -> list[str]:
    answer = client.get("/status")
    document = answer.json()
    assert answer.status_code == 200
    assert document["status"] == ("stalled" if document["reasons"] else "moving")
    return list(document["reasons"])


def saw(deployment: str, *, after: float = 0, user: str = "") -> str:
    """What is said of a claim from a deployment, so many seconds after the one before."""
    later = timedelta(seconds=after)
    for consumer in ReportConsumer.objects.all():
        consumer.seen_at -= later
        consumer.other_seen_at = consumer.other_seen_at and consumer.other_seen_at - later
        consumer.save()
    return str(triggers.saw(Pattern.QUEUE, "lane", deployment, user=user) or "")


def test_a_consumer_of_two_deployments_is_named_everywhere(
    client: Client, admin_client: Client, client_with: ClientFactory, caplog: pytest.LogCaptureFixture
):
    api = client_with("consume_reportqueue")

    def claim(deployment: str) -> dict[str, Any]:
        body = {"consumer": "lane", "deployment": deployment}
        answer = api.post("/api/report-queue/claim/", body, format="json")
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    assert "warning" not in claim("one")
    assert client.get("/status").json()["warnings"] == []
    said = "The consumer 'lane' claims from two Dagster deployments, one and two."
    for deployment in ("two", "one", "two"):
        assert said in claim(deployment)["warning"]
    assert [said in record.getMessage() for record in caplog.records] == [True], "once in half a minute"
    assert client.get("/status").json()["warnings"] == [
        "A consumer claims from two Dagster deployments: the admin and the log name it."
    ]
    page = admin_client.get(reverse("admin:reportqueue_reportqueue_changelist")).content.decode()
    assert "claims from two Dagster deployments, one and two." in page
    caplog.clear()
    Command()._warn()
    assert any(said in record.getMessage() for record in caplog.records)


def test_a_deployment_that_takes_the_place_of_another_is_no_second_one():
    assert saw("one") == ""
    assert saw("two", after=consumers.REPLACED_SECONDS + 1) == ""
    assert saw("two", after=1) == ""
    assert "two and one" in saw("one", after=1)


def test_the_one_that_stays_is_not_told_of_itself():
    saw("one")
    assert "one and two" in saw("two")
    assert saw("two", after=consumers.REPLACED_SECONDS + 1) == ""
    assert triggers.twice() == []


def test_consumers_of_two_api_users_are_two():
    assert [saw("one", user="berlin"), saw("two", user="paris"), saw("one", user="berlin")] == [""] * 3
    assert triggers.twice() == []
    assert [saw("", user="paris"), saw("", user="berlin")] == ["", ""]
    assert "one and three" in saw("three", user="berlin")
    assert saw("two", user="paris") == "", "it is not that user's"
    assert saw("two", user="paris", after=consumers.REPLACED_SECONDS + 1) == ""
    assert ReportConsumer.objects.get().api_user == "paris"


def test_two_deployments_are_forgotten_once_one_is_gone():
    saw("one")
    assert saw("two")
    assert saw("one", after=consumers.REPLACED_SECONDS - 1)
    assert saw("one", after=consumers.TWICE_SECONDS) == ""
    assert triggers.twice() == []


def test_after_the_clock_was_set_back_a_consumer_is_noted_anew():
    saw("one")
    assert saw("one", after=-3 * 3600) == ""
    (noted,) = ReportConsumer.objects.all()
    assert abs(noted.seen_at - minutes_ago(0)) < timedelta(minutes=1)
    assert saw("two", after=-3 * 3600) == "", "it has taken the place of the other"
    assert ReportConsumer.objects.get().deployment == "two"


def test_who_names_no_deployment_is_not_a_second_one():
    assert [saw(""), saw("one"), saw(""), saw("one", after=consumers.NOTED_SECONDS + 1)] == [""] * 4
    assert ReportConsumer.objects.get().deployment == "one"


def test_nothing_is_expected_of_an_empty_installation(client: Client):
    assert reasons(client) == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (Pattern.QUEUE, "Nobody claims reports, although schedules are enabled. None ever has."),
        (Pattern.POLLING, "Nobody polls for reports, although schedules are enabled. None ever has."),
        (Pattern.CRON, "No sensor of the pattern cron reads the schedules, although schedules are enabled."),
        (Pattern.ASSET, "No sensor of the pattern asset reads the schedules, although schedules are enabled."),
    ],
)
def test_with_schedules_a_consumer_of_their_pattern_is_expected(
    client: Client, make_schedule: ScheduleFactory, pattern: Pattern, said: str
):
    schedule = make_schedule()
    own(pattern)
    (reason,) = reasons(client)
    assert reason.startswith(said)
    assert "Is its sensor switched on in Dagster" in reason
    seen(pattern)
    assert reasons(client) == []
    ReportConsumer.objects.update(seen_at=minutes_ago(180))
    (reason,) = reasons(client)
    assert " UTC. Is its sensor" in reason
    assert "somebody" not in reason, "it may be the name of a user, and the caller has no login"
    (silence,) = triggers.silent()
    assert " UTC, by somebody. Is its sensor" in str(silence)
    ReportSchedule.objects.filter(pk=schedule.pk).update(enabled=False)
    assert reasons(client) == []


def test_after_a_switch_to_polling_without_a_sensor_rows_that_wait_are_noticed(client: Client, make_row: RowFactory):
    seen(Pattern.QUEUE)
    TriggerPeriod.objects.create(pattern=Pattern.QUEUE, until=minutes_ago(10))
    TriggerPeriod.objects.create(pattern=Pattern.POLLING, since=minutes_ago(10))
    make_row(available_at=minutes_ago(4))
    assert reasons(client) == [], "they have not waited for long"
    make_row(available_at=minutes_ago(6))
    (reason,) = reasons(client)
    assert reason.startswith("Nobody polls for reports, although reports have been due for more than 300 seconds.")
    make_row(available_at=minutes_ago(20))
    assert len(reasons(client)) == 1, "of the queue's own rows, claims are heard"
    ReportConsumer.objects.update(seen_at=minutes_ago(6))
    assert [text.split(",")[0] for text in reasons(client)] == ["Nobody polls for reports", "Nobody claims reports"]


def test_a_consumer_that_asks_is_heard_however_many_rows_wait(client: Client, make_row: RowFactory):
    for _ in range(3):
        make_row(available_at=minutes_ago(60))
    seen(Pattern.QUEUE, minutes=4)
    assert reasons(client) == []


def test_without_a_period_of_the_queue_a_sensor_that_polls_is_enough(client: Client, make_row: RowFactory):
    make_row(available_at=minutes_ago(60))
    seen(Pattern.POLLING)
    assert reasons(client) == []
    own(Pattern.QUEUE)
    assert len(reasons(client)) == 1


def test_webhook_sources_expect_a_consumer(client: Client):
    WebhookSource.objects.create(name="shop", report_id=1, modifier_id=2)
    assert reasons(client)[0].startswith("Nobody claims reports, although webhook sources are enabled.")
    seen(Pattern.QUEUE)
    assert reasons(client) == []
    own(Pattern.POLLING)
    assert reasons(client)[0].startswith("Nobody polls for reports, although webhook sources are enabled.")


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_say_it(admin_client: Client, make_schedule: ScheduleFactory, page: str):
    address = reverse(f"admin:reportqueue_{page}_changelist")
    assert "Nobody claims" not in admin_client.get(address).content.decode()
    make_schedule()
    assert "Nobody claims reports, although schedules are enabled" in admin_client.get(address).content.decode()


def test_the_scheduler_says_it_once_in_a_while(make_schedule: ScheduleFactory, caplog: pytest.LogCaptureFixture):
    make_schedule()
    command = Command(stdout=StringIO())
    for _ in range(3):
        command._pass(quiet=True)
    assert sum("Nobody claims reports" in message for message in caplog.messages) == 1


@pytest.mark.parametrize(
    ("arguments", "silent"),
    [
        ([], ["Nobody claims"]),
        (["--to", "polling"], ["Nobody polls"]),
        (["--to", "polling", "--dry-run"], ["Nobody claims", "Nobody polls"]),
        (["--to", "cron", "--at", "2030-01-01T00:00:00Z"], ["Nobody claims", "No sensor of the pattern cron"]),
    ],
    ids=str,
)
def test_the_command_says_it_of_the_patterns_that_it_names(settings: Any, arguments: list[str], silent: list[str]):
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "DAGSTER_URL": ""}  # nobody is told but the terminal

    def told() -> list[str]:
        out, err = StringIO(), StringIO()
        with transaction.atomic():
            call_command("switch_pattern", *arguments, stdout=out, stderr=err)
            transaction.set_rollback(True)
        return err.getvalue().splitlines()

    assert [line[: len(start)] for line, start in zip(told(), silent, strict=True)] == silent
    for pattern in Pattern:
        seen(pattern)
    assert told() == []


class TestNotes:
    """Who asks is noted by the API."""

    def noted(self) -> list[tuple[str, str]]:
        return list(ReportConsumer.objects.order_by("id").values_list("pattern", "name"))

    def test_the_calls_of_consumers_are_noted(self, client_with: ClientFactory):
        api = client_with("consume_reportqueue", "view_reportqueue", "view_reportschedule")
        api.post("/api/report-queue/claim/", {"consumer": "lane"}, format="json")
        api.get("/api/pending-reports/")
        for pattern in ("cron", "asset"):
            api.get(f"/api/reports/?pattern={pattern}", headers={"If-None-Match": '"x"'})
        api.get("/api/reports/")
        api.get("/api/report-queue/")
        user = self.noted()[1][1]
        assert user.startswith("user-")
        assert self.noted() == [("queue", "lane"), ("polling", user), ("cron", user), ("asset", user)]

    def test_whoever_may_not_ask_is_not_noted(self, client_with: ClientFactory):
        client_with("view_reportqueue").post("/api/report-queue/claim/", {"consumer": "lane"}, format="json")
        client_with("consume_reportqueue").get("/api/pending-reports/")
        assert self.noted() == []

    def test_a_call_is_noted_at_most_every_half_minute(self):
        triggers.saw(Pattern.QUEUE, "lane")
        first = ReportConsumer.objects.get().seen_at
        triggers.saw(Pattern.QUEUE, "lane")
        assert ReportConsumer.objects.get().seen_at == first
        ReportConsumer.objects.update(seen_at=minutes_ago(1))
        triggers.saw(Pattern.QUEUE, "lane")
        assert database_now() - ReportConsumer.objects.get().seen_at < timedelta(seconds=30)

    def test_names_are_bounded_and_forgotten(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(consumers, "MAX_CONSUMERS", 2)
        for name in ("a", "b", "c"):
            triggers.saw(Pattern.QUEUE, name)
        assert [name for _, name in self.noted()] == ["a", "b"]
        ReportConsumer.objects.filter(name="a").update(seen_at=minutes_ago(31 * 24 * 60))
        triggers.saw(Pattern.QUEUE, "c")
        assert [name for _, name in self.noted()] == ["b", "c"]

    @pytest.mark.django_db(transaction=True)
    def test_a_row_that_somebody_holds_delays_no_claim(self, client_with: ClientFactory, settings: Any):
        seen(Pattern.QUEUE, "lane", minutes=5)
        api = client_with("consume_reportqueue")

        def claim() -> int:
            try:
                return int(api.post("/api/report-queue/claim/", {"consumer": "lane"}, format="json").status_code)
            finally:
                connection.close()

        with transaction.atomic():
            ReportConsumer.objects.select_for_update().get()
            begun: datetime = database_now()
            assert at_once([claim]) == [200]
            assert database_now() - begun < timedelta(seconds=5)


class TestRoutesThatNobodyAsksFor:
    """They are warned of: one mistyped route does not mean that the installation stands still."""

    def warnings(self, client: Client) -> list[str]:
        return [one for one in client.get("/status").json()["warnings"] if "route" in one]

    @pytest.fixture(autouse=True)
    def _finance_is_asked_for(self) -> None:
        triggers.saw(Pattern.QUEUE, "lane", routes=["finance"])

    def test_only_rows_that_have_been_due_for_as_long_as_the_text_says_count(
        self, client: Client, make_row: RowFactory
    ):
        make_row(route="finanec", available_at=minutes_ago(9), priority=5)
        make_row(route="finanec", available_at=minutes_ago(-9))
        make_row(route="finance", available_at=minutes_ago(60))
        assert self.warnings(client) == []
        make_row(route="finanec", available_at=minutes_ago(11), priority=-5)
        (said,) = self.warnings(client)
        assert said.startswith(
            "Reports of the route 'finanec' have been due for 10 minutes, and no consumer has asked for it since."
        )
        assert client.get("/status").json()["status"] == "moving"

    def test_it_is_said_in_the_admin_and_in_the_log(
        self, admin_client: Client, make_row: RowFactory, caplog: pytest.LogCaptureFixture
    ):
        make_row(route="finanec", available_at=minutes_ago(11))
        page = admin_client.get(reverse("admin:reportqueue_reportqueue_changelist")).content.decode()
        assert "Reports of the route &#x27;finanec&#x27; have been due" in page
        Command(stdout=StringIO())._warn()
        assert any("'finanec'" in record.getMessage() for record in caplog.records)

    def test_who_asks_for_all_routes_asks_for_each(self, client: Client, make_row: RowFactory):
        make_row(route="finanec", available_at=minutes_ago(11))
        triggers.saw(Pattern.QUEUE, "everything")
        assert self.warnings(client) == []
