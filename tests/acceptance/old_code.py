"""What the web app of an earlier commit does on today's tables; it is run with that commit's packages."""

from __future__ import annotations

import json
from typing import Any

import django
from django.test import Client

django.setup()

from django.contrib.auth.models import User  # noqa: E402

from reportqueue import schedules, tokens  # noqa: E402

key = tokens.issue(User.objects.create_superuser("dagster"), name="old code").key
client = Client(SERVER_NAME="127.0.0.1", headers={"Authorization": f"Token {key}"})


def post(path: str, **body: Any) -> Any:
    """The answer to a call, which must be accepted."""
    answer = client.post(f"/api/{path}", json.dumps(body), content_type="application/json")
    if answer.status_code not in (200, 201):
        raise SystemExit(f"{path}: {answer.status_code} {answer.content.decode()}")
    return answer.json()


ready = client.get("/readyz")
if ready.status_code != 200:
    raise SystemExit(f"not ready: {ready.content.decode()}")
post("report-queue/", report_id=1, modifier_id=2, params={"a": 1})
post("schedules/", report_id=3, modifier_id=4, cron="* * * * *", timezone="UTC")
schedules.enqueue_due()
claim = post("report-queue/claim/", consumer="old", limit=10)
made = []
for row in claim["queue"]:
    at = f"report-queue/{row['queue_id']}"
    token = post(f"{at}/start/", generation=row["generation"], run_id=f"run-{row['queue_id']}")["lease_token"]
    post(f"{at}/heartbeat/", lease_token=token)
    made.append(post(f"{at}/complete/", lease_token=token, result={"rows": 1})["status"])
post("report-queue/claim/", consumer="old", ack=claim["claim_id"])
print(json.dumps(made))
