"""`POST report-queue/`: one, many, and the same again."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from reportqueue.models import ReportQueue
from tests.conftest import ClientFactory
from tests.integration.test_api_endpoints import post, tables

REPORT = {"report_id": 1, "modifier_id": 2}


@pytest.fixture
def api(client_with: ClientFactory) -> APIClient:
    return client_with(*(f"{verb}_reportqueue" for verb in ("view", "add", "consume", "cancel", "requeue")))


def test_a_key_makes_a_repeated_enqueue_harmless(api: APIClient):
    body = {**REPORT, "idempotency_key": "order-7"}
    first = post(api, "", body, 201)
    assert post(api, "", {**body, "priority": 0}, 200)["queue_id"] == first["queue_id"]
    post(api, "claim/", {"consumer": "sensor"})
    assert post(api, "", body, 200)["status"] == "claimed"
    assert post(api, "", {**body, "priority": 1}, 409)["type"] == "idempotency-key-reused"
    assert ReportQueue.objects.count() == 1


def test_the_idempotency_key_header_does_the_same_for_one_item(api: APIClient):
    first = post(api, "", REPORT, 201, **{"Idempotency-Key": "order-7"})
    assert first["idempotency_key"] == "order-7"
    assert post(api, "", REPORT, 200, **{"Idempotency-Key": "order-7"})["queue_id"] == first["queue_id"]
    assert post(api, "", {**REPORT, "idempotency_key": "order-7"}, 200)["queue_id"] == first["queue_id"]
    same = post(api, "", {**REPORT, "idempotency_key": "order-7"}, 200, **{"Idempotency-Key": "order-7"})
    assert same["queue_id"] == first["queue_id"]
    other = post(api, "", {"report_id": 1, "modifier_id": 3}, 409, **{"Idempotency-Key": "order-7"})
    assert other["type"] == "idempotency-key-reused"
    post(api, "", {**REPORT, "idempotency_key": "a"}, 400, **{"Idempotency-Key": "b"})
    post(api, "", [REPORT], 400, **{"Idempotency-Key": "c"})
    assert ReportQueue.objects.count() == 1


def test_a_list_is_answered_with_a_list_in_its_order(api: APIClient):
    items = [{"report_id": 1, "modifier_id": n, "idempotency_key": f"key {n}"} for n in (3, 1, 2)]
    first = post(api, "", items, 201)
    assert [item["modifier_id"] for item in first] == [3, 1, 2]
    assert post(api, "", items, 200) == first
    mixed = post(api, "", [{**REPORT, "report_id": 9}, items[1]], 201)
    assert mixed[1] == first[1]
    assert len(post(api, "", [REPORT], 201)) == 1


def test_a_list_may_have_a_thousand_items(api: APIClient):
    assert len(post(api, "", [{"report_id": 1, "modifier_id": n} for n in range(1000)], 201)) == 1000
    assert ReportQueue.objects.count() == 1000


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ({"report_id": 1}, 400),
        ({**REPORT, "trigger_time": "3000-01-01T00:00:00Z"}, 400),
        ({**REPORT, "priority": 5, "idempotency_key": "known"}, 409),
        ({**REPORT, "priority": 5, "idempotency_key": "in the list"}, 409),
        ("not an item", 400),
    ],
)
def test_a_list_is_all_or_nothing(api: APIClient, last: Any, code: int):
    post(api, "", {**REPORT, "idempotency_key": "known"}, 201)
    before = tables()
    answer = post(api, "", [REPORT, {**REPORT, "idempotency_key": "in the list"}, last], code)
    assert code == 409 or all(name.startswith("[2]") for name in answer["errors"])
    assert tables() == before
