"""How a run's end reaches its row: real jobs in this process, the real web app behind HTTP."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
from dagster import (
    AssetExecutionContext,
    DagsterRunStatus,
    Definitions,
    Failure,
    MetadataValue,
    OpExecutionContext,
    ReexecutionOptions,
    RetryPolicy,
    RetryRequested,
    TextMetadataValue,
    UrlMetadataValue,
    asset,
    define_asset_job,
    execute_job,
    job,
    op,
    reconstructable,
)
from django.utils import timezone

from dagster_reportqueue.execution import retry
from dagster_reportqueue.execution.report import ReportRun, result_metadata
from dagster_reportqueue.execution.run import LEASE_SECONDS, run_report
from dagster_reportqueue.jobs import build_report_job
from dagster_reportqueue.resources import ReportQueueResource
from dagster_reportqueue.tickets import Ticket
from reportqueue.conf import Conf
from reportqueue.models import ReportQueue
from reportqueue.states import Outcome, Status
from tests.conftest import build_row
from tests.dagster_reportqueue import location
from tests.dagster_reportqueue.front import Fault, Front, Reply
from tests.dagster_reportqueue.location import own_job
from tests.dagster_reportqueue.runs import Runner, the_row

FAILED, SUCCESS = DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS


def nothing(run: ReportRun) -> None:
    """A report that makes nothing."""


def boom(run: ReportRun) -> None:
    raise ZeroDivisionError("the year has no months")


def test_a_report_that_is_made_ends_as_succeeded_with_its_result(runner: Runner):
    build_row(report_id=7, modifier_id=8, params={"year": 2026}, max_attempts=4)
    seen: list[ReportRun] = []

    def work(run: ReportRun) -> Mapping[str, Any]:
        seen.append(run)
        row = the_row()
        assert (row.status, row.run_id) == (Status.RUNNING, run.run_id)
        return {"rows": 3, "artifacts": {"page": "http://web/page", "table": "http://web/table"}}

    result = runner.make(work)
    row = the_row()
    assert (runner.status(result), row.status) == (SUCCESS, Status.SUCCEEDED)
    assert row.result == {"rows": 3, "artifacts": {"page": "http://web/page", "table": "http://web/table"}}
    (run,) = seen
    assert (run.report_id, run.modifier_id, run.params) == (7, 8, {"year": 2026})
    assert (run.run_id, run.queue_id, run.generation, run.attempt) == (result.run_id, row.pk, 1, 1)
    assert run.trigger_time == row.trigger_time
    assert "2026" not in repr(run).replace(str(row.trigger_time.year), ""), "params may be confidential"
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert output.step_output_data.metadata == {
        "page": MetadataValue.url("http://web/page"),
        "table": MetadataValue.url("http://web/table"),
        "result": MetadataValue.json({"rows": 3}),
    }


def test_neither_params_nor_token_reach_dagster(runner: Runner, token: str):
    build_row(params={"customer": "Ms Confidential"})
    result = runner.make(nothing)
    run = runner.instance.get_run_by_id(result.run_id)
    lease_token = str(ReportQueue.objects.get().attempts.get().lease_token)
    for text in (runner.log(result), repr(run)):
        assert not [secret for secret in (token, lease_token, "Ms Confidential") if secret in text]


def test_a_report_without_a_result_succeeds(runner: Runner):
    build_row()
    result = runner.make(nothing)
    assert (runner.status(result), the_row().status) == (SUCCESS, Status.SUCCEEDED)


def test_a_report_that_raises_is_tried_again_until_its_attempts_are_used_up(runner: Runner, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 0}
    row = build_row(max_attempts=2)
    first = runner.make(boom)
    row.refresh_from_db()
    assert (runner.status(first), row.status, row.attempt) == (FAILED, Status.QUEUED, 1)
    second = runner.make(boom)
    row.refresh_from_db()
    assert (runner.status(second), row.status, row.attempt) == (FAILED, Status.FAILED, 2)
    attempts = list(row.attempts.all())
    assert [attempt.run_id for attempt in attempts] == [first.run_id, second.run_id]
    assert [attempt.outcome for attempt in attempts] == [Outcome.FAILED] * 2
    for attempt in attempts:
        assert attempt.error.rstrip().endswith("ZeroDivisionError: the year has no months")
        assert "in boom" in attempt.error, "the traceback is what helps"


def test_a_report_that_raises_waits_for_its_next_attempt(runner: Runner, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 600, "RETRY_JITTER": 0}
    build_row()
    runner.make(boom)
    assert 500 < (the_row().available_at - timezone.now()).total_seconds() <= 600


@pytest.mark.parametrize("text", ["nul \x00", "half a character \ud800", "long " * 10_000])
def test_an_error_of_any_text_is_told(runner: Runner, text: str):
    def work(run: ReportRun) -> None:
        raise ValueError(text)

    build_row(max_attempts=1)
    runner.make(work)
    assert (the_row().status, the_row().attempts.get().outcome) == (Status.FAILED, Outcome.FAILED)
    assert the_row().error.rstrip().endswith(text.replace("\x00", "\ufffd").replace("\ud800", "?")[-50:].rstrip())


def test_a_failure_that_forbids_retries_is_final(runner: Runner):
    def work(run: ReportRun) -> None:
        raise Failure("no such customer", allow_retries=False)

    build_row(max_attempts=5)
    result = runner.make(work)
    assert (runner.status(result), the_row().status, the_row().attempt) == (FAILED, Status.FAILED, 1)
    assert "no such customer" in the_row().error


def test_a_failure_that_allows_retries_is_tried_again(runner: Runner):
    def work(run: ReportRun) -> None:
        raise Failure("not today")

    build_row()
    assert runner.status(runner.make(work)) == FAILED
    assert the_row().status == Status.QUEUED


@pytest.mark.parametrize(("asked", "given"), [(700, 700), (0.4, 0), (10**9, 30 * 86_400), (float("inf"), 30 * 86_400)])
def test_a_report_that_asks_for_a_retry_names_its_delay(runner: Runner, asked: float, given: int):
    def work(run: ReportRun) -> None:
        raise RetryRequested(max_retries=3, seconds_to_wait=asked)

    build_row()
    result = runner.make(work)
    row = the_row()
    assert (runner.status(result), row.status) == (FAILED, Status.QUEUED)
    assert abs((row.available_at - timezone.now()).total_seconds() - given) < 60
    assert "STEP_UP_FOR_RETRY" not in {event.event_type_value for event in result.all_events}, "the queue owns retries"


def test_a_retry_without_a_delay_gets_the_queues(runner: Runner, settings):
    settings.REPORTQUEUE = {"RETRY_BACKOFF_SECONDS": 600, "RETRY_JITTER": 0}

    def work(run: ReportRun) -> None:
        raise RetryRequested

    build_row()
    runner.make(work)
    assert (the_row().available_at - timezone.now()).total_seconds() > 500


def test_sys_exit_in_a_report_is_a_failed_attempt(runner: Runner):
    def work(run: ReportRun) -> None:
        raise SystemExit(3)

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status) == (FAILED, Status.QUEUED)
    assert "SystemExit: 3" in the_row().error


@pytest.mark.parametrize("status", [Status.RUNNING, Status.SUCCEEDED, Status.CANCELLED])
def test_a_run_that_is_too_late_ends_without_work(runner: Runner, status: Status):
    build_row()
    item = runner.claim()
    ReportQueue.objects.all().delete()
    build_row(pk=item.queue_id, status=status, generation=1)
    before = ReportQueue.objects.values().get()
    result = runner.run(build_report_job(boom), item)
    assert runner.status(result) == SUCCESS
    assert "Not started; this run ends without work" in runner.log(result)
    assert status in runner.log(result)
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    assert "not started" in str(output.step_output_data.metadata["outcome"].value)
    assert ReportQueue.objects.values().get() == before


def test_a_run_whose_row_was_deleted_ends_without_work(runner: Runner):
    build_row()
    item = runner.claim()
    ReportQueue.objects.all().delete()
    result = runner.run(build_report_job(boom), item)
    assert runner.status(result) == SUCCESS
    assert "Not started; this run ends without work" in runner.log(result)


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_start_that_is_refused_fails_the_run_with_the_reason(runner: Runner, front: Front, status: int):
    build_row()
    item = runner.claim()
    front.fail(Reply(status, "<h1>No</h1>", "text/html"))
    result = runner.run(build_report_job(boom), item)
    assert runner.status(result) == FAILED
    assert f"/start/ answered {status}: " in runner.log(result)
    assert the_row().status == Status.CLAIMED


def test_a_second_run_of_a_row_ends_without_work(runner: Runner):
    build_row()
    item = runner.claim()
    made = []
    for _ in range(2):
        assert runner.status(runner.run(build_report_job(lambda run: made.append(run.run_id)), item)) == SUCCESS
    assert len(made) == 1
    assert the_row().run_id == made[0]


def test_a_persons_re_execution_makes_the_report_again(runner: Runner, token: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REPORTQUEUE_URL", runner.client.url)
    monkeypatch.setenv("REPORTQUEUE_TOKEN", token)
    row = build_row(max_attempts=1, params={"do": "raise"})
    failed = runner.run(location.report_job, runner.claim())
    row.refresh_from_db()
    assert row.status == Status.FAILED
    row.params = {}
    row.save()
    job = reconstructable(location.the_report_job)
    with execute_job(
        job, runner.instance, reexecution_options=ReexecutionOptions(parent_run_id=failed.run_id)
    ) as again:
        assert again.success
    row.refresh_from_db()
    assert (row.status, row.run_id, row.attempt) == (Status.SUCCEEDED, again.run_id, 1)
    assert row.attempts.last().parent_run_id == failed.run_id
    with execute_job(
        job, runner.instance, reexecution_options=ReexecutionOptions(parent_run_id=failed.run_id)
    ) as stale:
        assert stale.success
    row.refresh_from_db()
    assert row.run_id == again.run_id, "only the last run's re-execution is the row's"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"text": "x" * 70_000}, "at most 65,536 bytes"),
        ({"text": "x" * 2**21}, "less than 1,048,576"),
        ({"text": "a\x00b"}, "NUL"),
        ({"when": timezone.now()}, "not JSON"),
        ({"share": float("nan")}, "not JSON"),
        ([1, 2], "JSON object"),
    ],
    ids=["large", "huge", "nul", "datetime", "nan", "list"],
)
def test_a_result_that_the_queue_refuses_fails_for_good(runner: Runner, result: Any, said: str):
    build_row(max_attempts=5)
    ended = runner.make(lambda run: result)
    row = the_row()
    assert (runner.status(ended), row.status, row.attempt) == (FAILED, Status.FAILED, 1)
    assert "The report was made, but the queue refused its result" in row.error
    assert said in row.error
    assert said in runner.log(ended)


def test_a_400_of_something_else_is_not_the_results_fault(runner: Runner, front: Front):
    build_row()
    item = runner.claim()
    front.fail(Reply(400, "<h1>Bad Request</h1>", "text/html"), on="complete")
    assert runner.status(runner.run(build_report_job(nothing), item)) == FAILED
    assert the_row().status == Status.RUNNING, "its lease runs out, and the next attempt may fare better"


def test_a_report_is_completed_although_the_api_is_away_for_a_while(runner: Runner, front: Front):
    def work(run: ReportRun) -> dict[str, Any]:
        front.fail(Fault.DROP, times=3)
        return {"rows": 3}

    build_row()
    result = runner.make(work)
    assert (runner.status(result), the_row().status, the_row().result) == (SUCCESS, Status.SUCCEEDED, {"rows": 3})
    assert front.verbs().count("complete") >= 3


def test_a_start_waits_for_an_api_that_is_away(runner: Runner, front: Front):
    build_row()
    item = runner.claim()
    front.fail(Reply(502), times=2)
    assert runner.status(runner.run(build_report_job(nothing), item)) == SUCCESS
    assert front.verbs() == ["claim", "start", "start", "start", "complete"]


def test_a_start_whose_answer_is_lost_is_one_attempt(runner: Runner, front: Front):
    build_row()
    item = runner.claim()
    front.fail(Fault.LOSE, on="start", times=1)
    assert runner.status(runner.run(build_report_job(nothing), item)) == SUCCESS
    assert (the_row().attempt, the_row().attempts.count()) == (1, 1)


def test_an_end_that_cannot_be_told_is_logged_and_left_to_the_lease(
    runner: Runner, front: Front, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.2)

    def work(run: ReportRun) -> None:
        front.fail(Fault.DROP)
        raise ZeroDivisionError("the year has no months")

    build_row()
    result = runner.make(work)
    assert runner.status(result) == FAILED
    assert "The end of this run could not be reported to the queue: http://" in runner.log(result)
    assert "the year has no months" in runner.log(result), "the report's own error is what the run shows"
    assert the_row().status == Status.RUNNING


def test_an_op_that_is_retried_by_dagster_says_who_owns_retries(runner: Runner):
    calls = []

    @op(retry_policy=RetryPolicy(max_retries=1))
    def stubborn(context: OpExecutionContext, report_queue: ReportQueueResource) -> None:
        def work(run: ReportRun) -> None:
            calls.append(run)
            raise ZeroDivisionError

        run_report(context, report_queue.client(), Ticket(item.queue_id, item.generation), work)

    @job
    def stubborn_job() -> None:
        stubborn()

    build_row()
    item = runner.claim()
    result = runner.run(stubborn_job, item, config=None)
    assert (runner.status(result), len(calls), the_row().status) == (FAILED, 1, Status.QUEUED)
    assert "The queue owns retries" in runner.log(result)


def test_anybodys_own_job_finds_its_row_by_its_tags(runner: Runner):
    build_row()
    item = runner.claim()
    result = runner.run(own_job, item, config=None)
    assert result.output_for_node("send") == "sent 3 rows"
    assert (the_row().status, the_row().result) == (Status.SUCCEEDED, {"rows": 3})
    again = runner.run(own_job, item, config=None)
    assert again.output_for_node("render") == "not mine"


def test_anybodys_own_job_can_be_launched_by_hand(runner: Runner):
    build_row()
    item = runner.claim()
    assert runner.run(own_job, item, config=None, tags={}).output_for_node("render") == "by hand"


def test_a_run_without_a_ticket_says_which_tag_it_lacks_and_what_to_do(runner: Runner):
    build_row()
    result = runner.run(location.year_job, runner.claim(), lambda item: location.YEAR_CONFIG, tags={})
    assert runner.status(result) == FAILED
    log = runner.log(result)
    assert "it has no tag reportqueue/queue_id, which a queue sensor sets" in log
    assert "let a sensor of `build_queue_sensor` launch the job" in log
    assert the_row().status == Status.CLAIMED
    assert the_row().status == Status.CLAIMED


def test_an_asset_can_be_the_report(runner: Runner, token: str):
    @asset
    def report(context: AssetExecutionContext, report_queue: ReportQueueResource) -> None:
        ticket = Ticket.of_run(context.run.tags)
        assert ticket is not None
        run_report(context, report_queue.client(), ticket, lambda run: {"rows": 1})

    build_row()
    item = runner.claim()
    defs = Definitions(
        assets=[report],
        jobs=[define_asset_job("asset_job", [report])],
        resources={"report_queue": ReportQueueResource(url=runner.client.url, token=token)},
    )
    result = defs.resolve_job_def("asset_job").execute_in_process(
        instance=runner.instance, tags=Ticket(item.queue_id, item.generation).tags()
    )
    assert result.success
    assert the_row().result == {"rows": 1}


def test_a_job_launched_by_hand_without_a_row_tells_the_queue_nothing(runner: Runner, front: Front):
    seen: list[ReportRun] = []

    def work(run: ReportRun) -> dict[str, Any]:
        run.progress("half")
        assert not run.stop_requested()
        seen.append(run)
        return {"rows": 1}

    result = build_report_job(work).execute_in_process(
        run_config={"ops": {"report_data": {"config": {"report_id": 1, "modifier_id": 2}}}},
        resources={"report_queue": ReportQueueResource(url=front.url, token="unused")},
        instance=runner.instance,
    )
    assert result.success
    assert (seen[0].report_id, seen[0].modifier_id, seen[0].params, front.calls) == (1, 2, {}, [])


def test_a_row_without_its_generation_is_refused(runner: Runner, front: Front):
    build_row()
    item = runner.claim()
    config = {"ops": {"report_data": {"config": {"report_id": 1, "modifier_id": 2, "queue_id": item.queue_id}}}}
    result = runner.run(build_report_job(boom), item, config=lambda item: config)
    assert "it needs the row's generation too" in runner.log(result)
    assert (runner.status(result), front.verbs()) == (FAILED, ["claim"])


def test_progress_is_shown_with_the_next_beat(runner: Runner, front: Front):
    def work(run: ReportRun) -> None:
        run.progress("half\x00" + "x" * 300)
        front.wait_for("heartbeat")
        run.progress("done")
        front.wait_for("heartbeat", 3)
        shown.append(the_row().attempts.get().progress)

    shown: list[str] = []
    build_row()
    assert runner.status(runner.make(work)) == SUCCESS
    assert shown == ["done"]
    beats = [call.body for call in front.calls if call.verb == "heartbeat"]
    assert [beat["rows"][0].get("progress") for beat in beats[:3]] == ["half\ufffd" + "x" * 195, "done", None]
    assert {beat["lease_seconds"] for beat in beats} == {5}


def test_no_thread_is_left_behind(runner: Runner):
    def work(run: ReportRun) -> None:
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("reportqueue-")]) == 2

    build_row()
    assert runner.status(runner.make(work)) == SUCCESS
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reportqueue-")]


@pytest.mark.parametrize("seconds", [4, 0, -1, 86_401])
def test_a_lease_beyond_the_apis_bounds_is_refused_when_the_job_is_built(seconds: int):
    with pytest.raises(ValueError, match="lease_seconds must be from 5 to 86,400"):
        build_report_job(nothing, lease_seconds=seconds)


def test_the_default_lease_is_the_web_apps():
    assert Conf().run_lease_seconds == LEASE_SECONDS


def test_a_result_becomes_links_and_the_rest_as_it_is():
    assert result_metadata({}) == {}
    assert result_metadata({"artifacts": ["not", "a", "mapping"], "rows": 1}) == {
        "result": MetadataValue.json({"rows": 1})
    }


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\tscript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "//elsewhere.example/x",
        "/admin/",
        "http:///no-host",
        "https:\\\\elsewhere.example",
        "http://[::1",
        "",
        17,
        None,
        ["http://web/page"],
    ],
    ids=repr,
)
def test_what_is_no_web_address_becomes_no_link_in_dagster(address: object):
    (found,) = result_metadata({"artifacts": {"page": address}}).values()
    # Dagster's values of different kinds may be equal.
    assert (type(found), found.value) == (TextMetadataValue, str(address))


@pytest.mark.parametrize("address", ["http://web/page", "https://web.example:8443/a?b=c#d", "HTTPS://web/page"])
def test_a_web_address_becomes_a_link_in_dagster(address: str):
    (found,) = result_metadata({"artifacts": {"page": address}}).values()
    assert (type(found), found.value) == (UrlMetadataValue, address)
