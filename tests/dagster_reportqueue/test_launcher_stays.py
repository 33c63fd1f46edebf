"""What a run of the warm launcher can leave behind: each has a bound, after which its slot is free."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterRunStatus

from dagster_reportqueue.warm import launcher as launcher_module
from dagster_reportqueue.warm import processes, signs_of_life
from dagster_reportqueue.warm.leftovers import Leftovers, Run
from dagster_reportqueue.warm.slots import Slots
from tests.dagster_reportqueue.waiting import until
from tests.dagster_reportqueue.warm import Warm, end_runs, gone, two_at_once

SUCCESS, FAILURE, CANCELED = DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED
LINGER_SECONDS, STOP_SECONDS = 3, 2
LATE_SECONDS = 12
"""What a busy machine may add to a bound."""
STAYED, LEFT = "was still there at the end of linger_seconds", "The run has left processes, which were killed"


@pytest.fixture(scope="module")
def warm(dagster_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    folder = tmp_path_factory.mktemp("warm")
    bounds = {"linger_seconds": LINGER_SECONDS, "stop_seconds": STOP_SECONDS}
    with two_at_once(dagster_database, folder, **bounds) as warm:
        yield warm


@pytest.fixture(autouse=True)
def _nothing_left(warm: Warm) -> Iterator[None]:
    yield
    end_runs(warm)


def noted(warm: Warm, run_id: str, what: str) -> list[int]:
    """What the run, or what it has started, has noted of a kind."""
    return [note[what] for note in warm.notes(run_id) if what in note]


def opened(pid: int) -> set[str]:
    """What a process has open, but its standard streams."""
    links = {int(link.name): os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {place for number, place in links.items() if number > 2}


def slots_are_free(warm: Warm) -> bool:
    """Whether all of them can be taken."""
    slots = Slots(warm.folder / "warm_runs", 2)
    taken = [slots.take(), slots.take()]
    for slot in taken:
        if slot is not None:
            slot.free()
    return None not in taken


def nothing_stays(warm: Warm, run_id: str, seconds: float) -> None:
    """Within so many seconds the run's processes are gone and all slots are free; and the next runs are made."""
    pids = [warm.started(run_id)["pid"], *noted(warm, run_id, "left")]
    until(lambda: all(gone(pid) for pid in pids), seconds, what=f"the end of {pids}")
    until(lambda: slots_are_free(warm), what="the slots")
    assert [warm.ended(run) for run in (warm.launch(), warm.launch())] == [SUCCESS, SUCCESS]


@pytest.mark.parametrize("do", ["pool helper", "shared watch", "folder"])
def test_a_run_ends_as_the_interpreter_does_and_needs_no_bound(warm: Warm, do: str):
    run_id = warm.launch(do)
    assert warm.ended(run_id) == SUCCESS
    nothing_stays(warm, run_id, LATE_SECONDS)
    assert not any(Path(str(folder)).exists() for folder in noted(warm, run_id, "folder"))
    assert not any(Path(f"/dev/shm/{memory}").exists() for memory in noted(warm, run_id, "memory"))  # noqa: S108
    assert STAYED not in warm.log(run_id)
    assert LEFT not in warm.log(run_id)


@pytest.mark.parametrize("do", ["thread", "joined", "at_exit child session"])
def test_a_process_that_stays_after_its_run_is_killed_and_its_run_succeeds(warm: Warm, do: str):
    run_id = warm.launch(do)
    assert warm.ended(run_id) == SUCCESS
    assert not gone(warm.started(run_id)["pid"])
    nothing_stays(warm, run_id, LINGER_SECONDS + LATE_SECONDS)
    until(lambda: STAYED in warm.log(run_id), what="the remark")
    assert warm.status(run_id) == SUCCESS


@pytest.mark.parametrize("do", ["child", "daemon", "session", "daemon child session pool"])
def test_what_a_run_leaves_is_killed_and_the_run_says_so(warm: Warm, do: str):
    run_id = warm.launch(do)
    assert warm.ended(run_id) == SUCCESS
    until(lambda: noted(warm, run_id, "left"))
    nothing_stays(warm, run_id, LATE_SECONDS)
    until(lambda: LEFT in warm.log(run_id), what="the remark")
    assert all(f"(pid {pid})" in warm.log(run_id) for pid in noted(warm, run_id, "left")) or "session" in do
    assert STAYED not in warm.log(run_id)


def test_a_run_holds_nothing_of_its_server(warm: Warm):
    """So code that closes every descriptor, or forks and stays, neither ends nor keeps what is the server's."""
    run_id = warm.launch("wait")
    held, servers = opened(warm.started(run_id)["pid"]), opened(warm.server(run_id).pid)
    assert not any("slot-" in place for place in held)
    assert any("slot-" in place for place in servers)
    assert not {place for place in held & servers if place.startswith(("socket:", "pipe:"))}


def test_a_run_that_leaves_nothing_is_not_blamed(warm: Warm):
    runs = [warm.launch() for _ in range(6)]
    assert {warm.ended(run_id) for run_id in runs} == {SUCCESS}
    nothing_stays(warm, runs[-1], LATE_SECONDS)
    for run_id in runs:
        assert "killed" not in warm.log(run_id)


def test_what_a_run_leaves_whose_process_dies_is_killed_at_once(warm: Warm):
    run_id = warm.launch("session daemon die")
    assert warm.ended(run_id) == FAILURE
    nothing_stays(warm, run_id, LATE_SECONDS)


@pytest.mark.parametrize("do", ["stop", "ignore", "daemon child lock", "move lock"])
def test_a_run_that_does_not_end_when_it_is_terminated_is_killed_and_canceled(warm: Warm, do: str):
    run_id = warm.launch(do)
    pid = warm.started(run_id)["pid"]
    assert warm.launcher.terminate(run_id)
    began = time.monotonic()
    while not warm.run(run_id).is_finished and time.monotonic() < began + STOP_SECONDS + LATE_SECONDS:
        warm.launcher.terminate(run_id)  # which does not prolong it
        time.sleep(0.2)
    assert warm.status(run_id) == CANCELED
    assert f"The run's process (pid {pid}) did not end in time when it was asked to, and was killed" in warm.log(run_id)
    nothing_stays(warm, run_id, LATE_SECONDS)


def test_a_run_that_ends_in_good_order_has_the_time_for_it(warm: Warm):
    run_id = warm.launch("wait")
    warm.started(run_id)
    assert warm.launcher.terminate(run_id)
    assert warm.ended(run_id) == CANCELED
    assert "did not end in time" not in warm.log(run_id)
    nothing_stays(warm, run_id, LATE_SECONDS)


@pytest.mark.parametrize("do", ["copy", "copy_that_raises"])
def test_a_forked_copy_of_a_run_does_not_go_on_with_it(warm: Warm, do: str):
    run_id = warm.launch(do)
    assert warm.ended(run_id) == SUCCESS
    until(lambda: noted(warm, run_id, "left"))
    nothing_stays(warm, run_id, LATE_SECONDS)
    for kind in (DagsterEventType.STEP_SUCCESS, DagsterEventType.RUN_SUCCESS):
        assert len(warm.instance.all_logs(run_id, of_type=kind)) == 1
    assert "STEP_FAILURE" not in warm.log(run_id)


@pytest.mark.parametrize("do", ["child lock", "stop"])
def test_a_killed_server_takes_its_runs_and_their_children_with_it(warm: Warm, do: str):
    run_id = warm.launch(do)
    pid = warm.started(run_id)["pid"]
    if "child" in do:
        until(lambda: noted(warm, run_id, "left"))
    os.kill(warm.server(run_id).pid, signal.SIGKILL)
    assert warm.ended(run_id) == FAILURE
    nothing_stays(warm, run_id, LATE_SECONDS)
    assert gone(pid)


def test_what_a_killed_servers_run_has_left_holds_no_slot(warm: Warm):
    """A daemon in a session of its own: neither its run nor its server is there to end it."""
    run_id = warm.launch("daemon wait")
    until(lambda: noted(warm, run_id, "left"))
    (left,) = noted(warm, run_id, "left")
    os.kill(warm.server(run_id).pid, signal.SIGKILL)
    try:
        until(lambda: slots_are_free(warm), what="the slots")
        assert not gone(left)
    finally:
        os.kill(left, signal.SIGKILL)
    assert warm.ended(run_id) == FAILURE


def test_a_guard_that_is_killed_is_replaced_and_a_server_ends_with_it(warm: Warm):
    run_id = warm.launch("child wait")
    until(lambda: noted(warm, run_id, "left"))
    server = warm.server(run_id).pid
    (guard,) = processes.children_of(server) - {warm.started(run_id)["pid"]}
    os.kill(guard, signal.SIGTERM)  # by whoever stops a service: the server is still to end in order
    assert not gone(guard)
    os.kill(guard, signal.SIGKILL)
    until(lambda: len(processes.children_of(server) - {guard}) == 2, what="another guard")
    (guard,) = processes.children_of(server) - {guard, warm.started(run_id)["pid"]}
    os.kill(server, signal.SIGKILL)
    nothing_stays(warm, run_id, LATE_SECONDS)
    until(lambda: gone(guard))


def test_a_server_that_is_asked_to_stop_leaves_nothing_of_its_runs(warm: Warm):
    runs = [warm.launch("daemon session lock"), warm.launch("session at_exit")]
    for run_id in runs:
        until(lambda run_id=run_id: noted(warm, run_id, "left"))
    server = warm.server(runs[0])
    until(lambda: warm.run(runs[1]).is_finished)
    os.kill(server.pid, signal.SIGTERM)
    until(lambda: gone(server.pid), 20)
    for run_id in runs:
        assert all(gone(pid) for pid in [warm.started(run_id)["pid"], *noted(warm, run_id, "left")])
    assert [warm.status(run_id) for run_id in runs] == [FAILURE, SUCCESS]


def test_slots_that_do_not_move_are_said_aloud(
    dagster_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(launcher_module, "STALLED_SECONDS", 1.0)
    with two_at_once(dagster_database, tmp_path) as warm:
        busy = [warm.launch("wait"), warm.launch("wait")]
        waiting = [warm.launch(), warm.launch()]
        pids = [warm.started(run_id)["pid"] for run_id in busy]
        until(lambda: "No slot has become free" in warm.log(waiting[0]), what="the remark")
        for text in (warm.log(waiting[0]), str(warm.launcher.get_run_worker_debug_info(warm.run(waiting[1])))):
            assert "2 of this server's runs wait" in text
            assert all(f"{run_id} (pid {pid}, for" in text for run_id, pid in zip(busy, pids, strict=True))
        until(lambda: warm.log(waiting[0]).count("No slot has become free") > 1, what="the remark again")
        assert "No slot has become free" not in warm.log(waiting[1])
        end_runs(warm)
        assert "No slot has become free" in capfd.readouterr().err


@pytest.mark.parametrize("how", ["canceled by force", "failed by run monitoring", "deleted"])
def test_a_run_that_has_ended_for_dagster_alone_is_ended(
    dagster_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    monkeypatch.setattr(launcher_module, "AUDIT_SECONDS", 1.0)
    with two_at_once(dagster_database, tmp_path, stop_seconds=1) as warm:
        other, run_id = warm.launch("wait"), warm.launch("daemon lock")
        pids = [note.get("pid") or note["left"] for note in (warm.started(run_id), warm.started(other))]
        match how:
            case "canceled by force":
                warm.instance.report_run_canceled(warm.run(run_id))
            case "failed by run monitoring":
                warm.instance.report_run_failed(warm.run(run_id))
            case "deleted":
                warm.instance.delete_run(run_id)
        until(lambda: gone(pids[0]), what="the end of its process")
        until(lambda: all(gone(pid) for pid in noted(warm, run_id, "left")))
        assert not gone(pids[1])
        if how != "deleted":
            until(lambda: "The run has ended for Dagster" in warm.log(run_id), what="the remark")
        assert signs_of_life.seen(warm.instance, socket.gethostname(), "no run"), "a daemon elsewhere fails its runs"
        end_runs(warm)


def test_a_process_that_may_not_be_killed_does_not_hold_a_slot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """One of another user, as of a program with the set-user-id bit."""
    slot = Slots(tmp_path, 1).take()
    assert slot is not None
    leftovers = Leftovers()
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    try:
        leftovers.add(Run("run", 1, slot, time.monotonic()))
        monkeypatch.setattr(processes, "kill_with_group", lambda pid: False)
        (run,) = leftovers.clear(set(), set())
        assert "could not be killed" in run.killed[pid]
        assert not leftovers
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        slot.free()
