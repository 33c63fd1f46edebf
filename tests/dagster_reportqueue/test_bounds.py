"""The API's bounds that the Dagster library repeats, as it imports nothing of the web app: both sides agree."""

import pytest

from dagster_reportqueue import environment, testing
from dagster_reportqueue.client import MAX_BATCH_ROWS, ApiRefused, ReportQueueClient, client, transport
from dagster_reportqueue.execution import attempt, report, run
from dagster_reportqueue.sensors import queue_sensor, reconciliation
from reportqueue import bounds, states
from reportqueue.conf import Conf
from reportqueue.patterns import Pattern

BOUNDS = {
    "rows in a claim": (queue_sensor.MAX_CLAIM, bounds.MAX_CLAIM),
    "the wait of a claim": (queue_sensor.MAX_WAIT_SECONDS, bounds.MAX_WAIT_SECONDS),
    "claims that wait in a process": (queue_sensor.MAX_LANES, Conf().max_waiters),
    "rows in a page": (client.PAGE, bounds.MAX_PAGE),
    "the shortest lease": (run.MIN_LEASE_SECONDS, bounds.MIN_LEASE_SECONDS),
    "the longest lease": (run.MAX_LEASE_SECONDS, bounds.MAX_LEASE_SECONDS),
    "the lease of a run": (run.LEASE_SECONDS, Conf().run_lease_seconds),
    "the delay of a retry": (attempt.MAX_DELAY_SECONDS, bounds.MAX_DELAY_SECONDS),
    "an error": (attempt.MAX_ERROR_CHARACTERS, bounds.MAX_ERROR_BYTES),
    "a progress": (report.MAX_PROGRESS_LENGTH, bounds.MAX_PROGRESS_LENGTH),
    "parameters and results": (testing.MAX_JSON_BYTES, bounds.MAX_JSON_BYTES),
    "the patterns": (set(environment.PATTERNS), set(Pattern.values)),
    "the final statuses": (set(reconciliation.FINAL), set(states.FINAL)),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bound_is_the_same_on_both_sides(bound: str):
    ours, theirs = BOUNDS[bound]
    assert ours == theirs


def test_the_client_sends_no_body_that_the_api_would_refuse_for_its_size():
    assert Conf().max_body_bytes >= transport.MAX_BODY_BYTES


def test_a_call_for_several_rows_takes_as_many_as_the_client_says(client: ReportQueueClient):
    generations = dict.fromkeys(range(1, MAX_BATCH_ROWS + 2), 1)
    assert len(client.start_many(generations, run_id="run")) == MAX_BATCH_ROWS + 1  # in two calls
    rows = [{"queue_id": pk, "generation": 1} for pk in generations]
    with pytest.raises(ApiRefused, match=f"At most {MAX_BATCH_ROWS} rows"):
        client.post("report-queue/start/", {"run_id": "run", "rows": rows})
