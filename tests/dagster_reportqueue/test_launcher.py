"""The warm launcher: a process for each run, in order, that anybody can stop and that does not die unnoticed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.launcher.base import WorkerStatus

from dagster_reportqueue.warm import launcher as launcher_module
from dagster_reportqueue.warm import signs_of_life
from dagster_reportqueue.warm.address import TAG, Address
from dagster_reportqueue.warm.server_process import remove_leftovers
from tests.dagster_reportqueue.daemon import ROOT
from tests.dagster_reportqueue.waiting import until
from tests.dagster_reportqueue.warm import Warm, end_runs, gone, two_at_once

SUCCESS, FAILURE, CANCELED = DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED


@pytest.fixture(scope="module")
def warm(dagster_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with two_at_once(dagster_database, tmp_path_factory.mktemp("warm"), preload=["numpy.random"]) as warm:
        yield warm


@pytest.fixture(autouse=True)
def _nothing_left(warm: Warm) -> Iterator[None]:
    yield
    end_runs(warm)


def test_each_run_is_a_process_forked_from_one_that_has_loaded_the_code(warm: Warm):
    first, second = warm.launch(), warm.launch()
    assert [warm.ended(first), warm.ended(second)] == [SUCCESS, SUCCESS]
    one, two = warm.started(first), warm.started(second)
    assert one["parent"] == two["parent"] == one["imported_by"] == two["imported_by"] == warm.server(first).pid
    assert one["pid"] != two["pid"]
    assert len({*one["random"], *two["random"]} - {None}) == 4, "each has its own, also of numpy"


def test_a_run_keeps_its_storage_connections_and_the_server_has_none(warm: Warm, dagster_database: str):
    run_id = warm.launch()
    assert warm.ended(run_id) == SUCCESS
    assert warm.started(run_id)["pool"] == "QueuePool"
    until(lambda: gone(warm.started(run_id)["pid"]))
    assert warm.server(run_id).pid in warm.servers()
    name = warm.instance.run_storage._engine.url.query["dbname"]
    place = dagster_database.replace("postgresql+psycopg2", "postgresql")
    with psycopg.connect(place, autocommit=True) as connection:
        connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        until(lambda: connection.execute(connected, [name]).fetchone() == (0,), what="the server's last connection")


def test_what_an_op_prints_is_kept_as_with_any_launcher(warm: Warm):
    run_id = warm.launch()
    assert warm.ended(run_id) == SUCCESS
    (captured,) = warm.instance.all_logs(run_id, of_type=DagsterEventType.LOGS_CAPTURED)
    key = captured.dagster_event.event_specific_data.file_key
    manager = warm.instance.compute_log_manager
    path = manager.get_captured_local_path([run_id, "compute_logs", key], "out")
    assert Path(path).read_text() == "printed by the op\n"


def test_runs_beyond_the_bound_wait_in_order(warm: Warm):
    busy = [warm.launch("wait"), warm.launch("wait")]
    for run_id in busy:
        warm.started(run_id)
    later = [warm.launch() for _ in range(3)]
    assert [warm.status(run_id) for run_id in later] == [DagsterRunStatus.STARTING] * 3
    assert "The run waits: 2 runs are before it." in warm.log(later[2])
    assert warm.launcher.check_run_worker_health(warm.run(later[1])).msg == "1 runs are before it"
    assert warm.launcher.terminate(busy[0])
    assert [warm.ended(run_id) for run_id in later] == [SUCCESS] * 3
    assert [note["run_id"] for note in warm.notes() if note["run_id"] in later] == later


def test_the_bound_holds_for_all_servers_of_the_instance(warm: Warm):
    """A webserver that launches runs has a server of its own."""
    warm.started(warm.launch("wait"))
    with DagsterInstance.from_ref(warm.instance.get_ref()) as other:
        theirs = [warm.create("wait"), warm.create()]
        for run_id in theirs:
            other.launch_run(run_id, workspace=None)  # type: ignore[arg-type]
        warm.started(theirs[0])
        assert warm.launcher.check_run_worker_health(warm.run(theirs[1])).msg == "0 runs are before it"
        assert warm.launcher.terminate(theirs[0])
        assert warm.ended(theirs[1]) == SUCCESS
        pid = warm.server(theirs[0]).pid
        assert pid != warm.server(warm.launch()).pid
    until(lambda: gone(pid), what="the end of the other server, whose runs are done")


def test_a_termination_that_comes_just_after_a_runs_end_leaves_it_not_canceling(warm: Warm):
    run_id = warm.launch("at_exit")
    assert warm.ended(run_id) == SUCCESS
    # It was read before the end, and is written after it.
    warm.instance.report_run_canceling(warm.run(run_id))
    assert warm.launcher.terminate(run_id)
    assert warm.ended(run_id) == CANCELED
    assert "The run had just ended when it was terminated." in warm.log(run_id)


def test_a_run_is_terminated_from_another_process(warm: Warm):
    run_id = warm.launch("wait")
    warm.started(run_id)
    program = (
        "import dagster, sys\n"
        "with dagster.DagsterInstance.get() as instance: print(instance.run_launcher.terminate(sys.argv[1]))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program, run_id],
        cwd=ROOT,
        env=warm.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert asked.stdout.strip() == "True"
    assert warm.ended(run_id) == CANCELED
    assert not warm.launcher.terminate(run_id)


def test_a_run_that_waits_is_terminated_without_ever_starting(warm: Warm):
    busy = [warm.launch("wait"), warm.launch("wait")]
    waiting = warm.launch()
    assert warm.launcher.terminate(waiting)
    assert warm.status(waiting) == CANCELED
    for run_id in busy:
        warm.started(run_id)
        assert warm.launcher.terminate(run_id)
        assert warm.ended(run_id) == CANCELED
    assert warm.ended(warm.launch()) == SUCCESS
    assert "Started process" not in warm.log(waiting)


def test_a_run_that_is_terminated_before_its_server_hears_of_it_never_starts(warm: Warm):
    run_id = warm.create()
    server = next(iter(warm.launcher._servers.values()))
    warm.instance.add_run_tags(run_id, {TAG: server.address.tag()})
    assert warm.launcher.terminate(run_id)
    assert warm.status(run_id) == CANCELED
    assert "refused" in server.launch(run_id)


def test_a_run_that_is_asked_to_end_while_its_process_starts_does_not_begin(warm: Warm):
    run_id = warm.create()
    warm.instance.report_run_canceling(warm.run(run_id))
    next(iter(warm.launcher._servers.values())).launch(run_id)
    assert warm.ended(run_id) == CANCELED
    assert not warm.notes(run_id)


def test_a_run_that_was_not_launched_is_terminated(warm: Warm):
    run_id = warm.create()
    assert warm.launcher.terminate(run_id)
    assert warm.status(run_id) == CANCELED


def test_a_run_that_its_server_hears_of_twice_is_executed_once(warm: Warm):
    run_id = warm.launch("wait")
    (server,) = warm.launcher._servers.values()
    pid = warm.started(run_id)["pid"]
    assert server.launch(run_id) == {"state": "running", "pid": pid}
    warm.launcher.terminate(run_id)
    assert warm.ended(run_id) == CANCELED
    # Even once the server has forgotten it: Dagster's own code looks whether it has ended.
    until(lambda: warm.launcher.check_run_worker_health(warm.run(run_id)).status == WorkerStatus.NOT_FOUND)
    assert server.launch(run_id)["state"] == "running"
    until(lambda: "Ignoring a run worker" in warm.log(run_id) or "Not starting execution" in warm.log(run_id))
    assert len(warm.notes(run_id)) == 1


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("signal 9", "was killed by SIGKILL"),
        ("signal 11", "was killed by SIGSEGV"),
        ("exit 3", "exited with code 3"),
        ("exit 0", "exited with code 0"),
    ],
)
def test_a_run_whose_process_dies_fails_at_once_and_says_why(warm: Warm, do: str, reason: str):
    run_id = warm.launch(do)
    assert warm.ended(run_id) == FAILURE
    assert f"The run's process (pid {warm.started(run_id)['pid']}) {reason}" in warm.log(run_id)
    assert len(warm.instance.all_logs(run_id, of_type=DagsterEventType.RUN_FAILURE)) == 1


def test_a_run_that_is_killed_while_it_is_to_end_is_canceled(warm: Warm):
    run_id = warm.launch("ignore")
    warm.started(run_id)
    assert warm.launcher.terminate(run_id)
    os.kill(warm.started(run_id)["pid"], signal.SIGKILL)
    assert warm.ended(run_id) == CANCELED


def test_the_health_of_a_run_is_that_of_its_process(warm: Warm, monkeypatch: pytest.MonkeyPatch):
    run_id = warm.launch("wait")
    pid = warm.started(run_id)["pid"]
    health = warm.launcher.check_run_worker_health(warm.run(run_id))
    assert (health.status, health.run_worker_id) == (WorkerStatus.RUNNING, str(pid))
    server = warm.server(run_id)
    monkeypatch.setattr(launcher_module, "ANSWER_SECONDS", 0.2)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        health = warm.launcher.check_run_worker_health(warm.run(run_id))
        assert health.status == WorkerStatus.RUNNING
        assert "did not answer" in str(health.msg)
        assert not warm.launcher.terminate(run_id)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    # It has heard that call in the meantime.
    assert warm.ended(run_id) == CANCELED
    assert warm.launcher.check_run_worker_health(warm.run(run_id)).status in (
        WorkerStatus.RUNNING,
        WorkerStatus.NOT_FOUND,
    )
    until(lambda: warm.launcher.check_run_worker_health(warm.run(run_id)).status == WorkerStatus.NOT_FOUND)


@pytest.mark.parametrize(
    "address",
    [None, Address("elsewhere", 1, "/nowhere"), Address(socket.gethostname(), os.getpid(), "/nowhere/socket")],
    ids=["never launched", "another host", "a server that is gone, its pid in use"],
)
def test_a_run_without_a_server_has_no_process(warm: Warm, monkeypatch: pytest.MonkeyPatch, address: Address | None):
    monkeypatch.setattr(signs_of_life, "SILENT_SECONDS", 0.0)
    run_id = warm.create()
    if address is not None:
        warm.instance.add_run_tags(run_id, {TAG: address.tag()})
    assert warm.launcher.check_run_worker_health(warm.run(run_id)).status == WorkerStatus.NOT_FOUND
    assert warm.launcher.terminate(run_id) == (address is None or address.is_here())
    warm.instance.report_run_canceled(warm.run(run_id))


def test_a_run_of_another_host_counts_as_working_while_that_host_gives_signs(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
):
    """Else a second daemon, on another host, would fail each of its runs."""
    run_id = warm.create()
    warm.instance.add_run_tags(run_id, {TAG: Address("elsewhere", 1, "/nowhere").tag()})

    def health() -> WorkerStatus:
        return warm.launcher.check_run_worker_health(warm.run(run_id)).status

    assert health() == WorkerStatus.RUNNING, "it is too young for a sign"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1_000)
    assert health() == WorkerStatus.NOT_FOUND
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "elsewhere")
        signs_of_life.give(warm.instance)
    assert health() == WorkerStatus.RUNNING
    monkeypatch.setattr(time, "time", lambda: now + 2_000)
    assert health() == WorkerStatus.NOT_FOUND
    monkeypatch.undo()
    warm.instance.report_run_canceled(warm.run(run_id))


def test_a_server_that_is_killed_takes_its_runs_with_it_and_the_next_launch_starts_another(warm: Warm):
    running = [warm.launch("wait"), warm.launch("ignore")]
    notes = [warm.started(run_id) for run_id in running]
    waiting = warm.launch()
    old = warm.server(waiting)
    os.kill(old.pid, signal.SIGKILL)
    assert [warm.ended(run_id) for run_id in [*running, waiting]] == [FAILURE] * 3
    assert f"The warm server (pid {old.pid}) was killed by SIGKILL" in warm.log(waiting)
    until(lambda: all(gone(note["pid"]) for note in notes), what="the end of the server's runs")
    assert not Path(old.path).parent.exists()
    again = warm.launch()
    assert warm.ended(again) == SUCCESS
    assert warm.server(again) != old
    assert not warm.notes(waiting)


def test_a_server_that_is_asked_to_stop_ends_its_runs_and_leaves_nothing(warm: Warm):
    """One ends when it is asked to, one has to be killed, one has not begun."""
    running = [warm.launch("wait"), warm.launch("ignore")]
    notes = [warm.started(run_id) for run_id in running]
    waiting = warm.launch()
    server = warm.server(waiting)
    os.kill(server.pid, signal.SIGTERM)
    until(lambda: gone(server.pid), 20)
    assert [warm.status(run_id) for run_id in [*running, waiting]] == [FAILURE] * 3
    assert all(gone(note["pid"]) for note in notes)
    assert "was stopped before the run was started" in warm.log(waiting)
    assert not Path(server.path).parent.exists()


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_runs_outlive_the_process_that_launched_them_and_their_server_ends_after_them(warm: Warm, how: str):
    runs = [warm.create("wait"), warm.create("wait"), warm.create()]
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.dagster_reportqueue.warm", *runs],
        cwd=ROOT,
        env=warm.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    with daemon:
        # Its status says that the last is launched before the server has heard of it.
        until(lambda: "The run waits" in warm.log(runs[-1]), 60, what="the launch of the last run")
        notes = [warm.started(run_id) for run_id in runs[:2]]
        if how == "killed":
            daemon.kill()
        else:
            assert daemon.stdin is not None
            daemon.stdin.close()
        daemon.wait(30)
    server = warm.server(runs[0])
    assert warm.launcher.check_run_worker_health(warm.run(runs[0])).status == WorkerStatus.RUNNING
    assert warm.launcher.terminate(runs[0])
    assert warm.ended(runs[2]) == SUCCESS
    assert warm.launcher.terminate(runs[1])
    assert [warm.ended(run_id) for run_id in runs[:2]] == [CANCELED, CANCELED]
    until(lambda: gone(server.pid), what="the end of the server")
    assert all(gone(note["pid"]) for note in notes)


def test_a_server_whose_output_nobody_reads_any_more_keeps_its_runs(warm: Warm):
    """A service manager closes its end of the pipe when the daemon is gone; the server reports a death after that."""
    runs = [warm.create("wait"), warm.create("wait")]
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.dagster_reportqueue.warm", *runs],
        cwd=ROOT,
        env=warm.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with daemon:
        notes = [warm.started(run_id) for run_id in runs]
        daemon.kill()
        daemon.wait(30)
    os.kill(notes[1]["pid"], signal.SIGKILL)
    assert warm.ended(runs[1]) == FAILURE
    assert warm.launcher.check_run_worker_health(warm.run(runs[0])).status == WorkerStatus.RUNNING
    assert not gone(notes[0]["pid"])
    assert warm.launcher.terminate(runs[0])
    assert warm.ended(runs[0]) == CANCELED
    until(lambda: gone(warm.server(runs[0]).pid), what="the end of the server")


def test_a_server_that_is_killed_with_its_daemon_leaves_no_password_and_its_folder_is_removed_later(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
):
    with tempfile.TemporaryDirectory(prefix="rq") as folder:  # a socket's path has to be short

        def told() -> list[Path]:
            """The files that hold the address of the database."""
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            return [path for path in files if b"postgresql+psycopg2://" in path.read_bytes()]

        run = warm.create("wait")
        daemon = subprocess.Popen(
            [sys.executable, "-m", "tests.dagster_reportqueue.warm", run],
            cwd=ROOT,
            env={**warm.environment(), "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        try:
            until(lambda: warm.notes(run), 180, what="the start of the run, by a new daemon and a new server")
            server = warm.server(run)
            assert Path(server.path).exists()
            assert told() == []
            monkeypatch.setattr(tempfile, "tempdir", folder)
            remove_leftovers()
            assert Path(server.path).exists(), "its server answers"
        finally:
            daemon.kill()
            daemon.communicate(timeout=30)
            if (address := Address.parse(warm.run(run).tags.get(TAG))) is not None:
                os.kill(address.pid, signal.SIGKILL)
        until(lambda: gone(server.pid), what="the end of the server")
        assert told() == []
        assert Path(server.path).exists()
        remove_leftovers()
        assert not Path(server.path).parent.exists()
        fresh = warm.run(run)
        if not fresh.is_finished:
            warm.instance.report_run_failed(fresh)
