"""From the user to the finished report with this user model. `tests/integration/test_custom_user.py` runs it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from reportqueue import tokens
from reportqueue.bounds import MAX_NAME_LENGTH, MAX_USER_LENGTH
from reportqueue.models import ApiToken, ReportConsumer, ReportQueue, ReportSchedule
from reportqueue.states import Status

pytestmark = pytest.mark.django_db
User: Any = get_user_model()
LONGEST = "d" * (254 - len("@example.com")) + "@example.com"


def created(capsys: pytest.CaptureFixture[str], name: str, *options: str) -> APIClient:
    """A client with the token that the command prints."""
    call_command("create_consumer", name, *options)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {capsys.readouterr().out.strip()}")
    return client


def post(api: APIClient, path: str, body: dict[str, Any], code: int = 200) -> Any:
    response = api.post(f"/api/{path}", body, format="json")
    assert response.status_code == code, response.content
    return response.json()


def test_a_report_goes_all_the_way(capsys: pytest.CaptureFixture[str], admin: Client):
    shop = created(capsys, f"shop.{LONGEST[5:]}", "--producer")
    dagster = created(capsys, LONGEST)
    user = User.objects.get(email=LONGEST)
    assert (len(LONGEST), user.has_usable_password()) == (254, False)
    body = {"report_id": 1, "modifier_id": 2, "idempotency_key": "order-7"}
    pk = post(shop, "report-queue/", body, 201)["queue_id"]
    assert post(shop, "report-queue/", body)["queue_id"] == pk
    claimed = post(dagster, "report-queue/claim/", {"consumer": "sensor"})
    assert [row["queue_id"] for row in claimed["queue"]] == [pk]
    assert ReportQueue.objects.get().api_user == str(user.pk)
    assert LONGEST in admin.get(f"/admin/reportqueue/reportqueue/{pk}/change/").content.decode()
    post(dagster, "report-queue/claim/", {"consumer": "sensor", "ack": claimed["claim_id"]})
    started = post(dagster, f"report-queue/{pk}/start/", {"generation": 1, "run_id": "run"})
    token = {"lease_token": started["lease_token"]}
    post(dagster, f"report-queue/{pk}/heartbeat/", token)
    assert post(dagster, f"report-queue/{pk}/complete/", token)["status"] == Status.SUCCEEDED


def test_another_users_row_stays_that_users(capsys: pytest.CaptureFixture[str]):
    first, second = created(capsys, LONGEST), created(capsys, "other@example.com")
    pk = post(
        created(capsys, "shop@example.com", "--producer"), "report-queue/", {"report_id": 1, "modifier_id": 2}, 201
    )["queue_id"]
    post(first, "report-queue/claim/", {"consumer": "sensor"})
    start = {"generation": 1, "run_id": "run"}
    assert post(second, f"report-queue/{pk}/start/", start, 403)["type"] == "held-by-another"
    post(first, f"report-queue/{pk}/start/", start)


def test_names_that_are_stored_are_cut_to_their_columns(capsys: pytest.CaptureFixture[str]):
    dagster = created(capsys, LONGEST)
    for path in ("pending-reports/", "reports/?pattern=cron"):
        assert dagster.get(f"/api/{path}").status_code == 200
    assert set(ReportConsumer.objects.values_list("name", flat=True)) == {LONGEST[:MAX_NAME_LENGTH]}
    keeper = User.objects.create(email="k" + LONGEST[1:], is_superuser=True)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {tokens.issue(keeper, name='host').key}")
    schedule = post(api, "schedules/", {"report_id": 1, "modifier_id": 2, "cron": "@daily"}, 201)
    paused = post(api, f"schedules/{schedule['schedule_id']}/pause/", {})
    assert paused["paused_by"] == keeper.email[:MAX_USER_LENGTH] == ReportSchedule.objects.get().paused_by


def test_the_command_repeated_adds_a_token_and_no_user(capsys: pytest.CaptureFixture[str]):
    for count in (1, 2):
        created(capsys, LONGEST)
        assert (User.objects.count(), ApiToken.objects.count()) == (1, count)


def test_a_name_that_the_model_refuses_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    for name, said in (("dagster", "email: Enter a valid email address."), ("d" + LONGEST, "email: ")):
        with pytest.raises(CommandError) as error:
            call_command("create_consumer", name)
        assert said in str(error.value)
        assert "create the user yourself" in str(error.value)
    monkeypatch.setattr(User._meta.get_field("team"), "blank", False)
    with pytest.raises(CommandError, match="team: This field cannot be blank"):
        call_command("create_consumer", LONGEST)
    assert not User.objects.exists()
    User.objects.create(email=LONGEST, team="reports")
    call_command("create_consumer", LONGEST)
    assert ApiToken.objects.get().user.team == "reports"


def test_the_admin_finds_users_by_their_address(admin: Client):
    User.objects.create(email=LONGEST)
    form = {"user_name": LONGEST, "name": "host"}
    page = admin.post("/admin/reportqueue/apitoken/add/", form, follow=True)
    assert "shown this once" in page.content.decode()
    assert ApiToken.objects.get().user.email == LONGEST
    (found,) = admin.get("/admin/reportqueue/apitoken/?q=dddd").context["cl"].result_list
    assert found.name == "host"


@pytest.fixture
def admin(db: None) -> Client:
    """The browser of somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create(email="root@example.com", is_superuser=True, is_staff=True))
    return client
