"""`run.py` when something is wrong: one clear line, an exit code that is not 0, and nothing left running."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.conftest import StartDemo
from tests.acceptance.demos import (
    ROOT,
    STOP_SECONDS,
    DemoProcess,
    clean_environment,
    http,
    processes_on,
    the_line,
    wait_for,
)
from tools.runner.stack import free_port

pytestmark = pytest.mark.timeout(600)  # starting a demo, or installing, takes long on a busy machine


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["deploy"],
        ["demo", "--port", "http"],
        ["demo", "--port", "0"],
        ["demo", "--port", "65536"],
        ["demo", "--port", "8001", "--dagster-port", "8001"],
        ["demo", "--timeout", "0"],
        ["demo", "--pattern", "cron,dagster"],
        ["demo", "--twice"],
        ["demo", "now"],
        ["lint", "--fix"],
        ["chaos", "--engine", "another"],
        ["matrix", "--cell", "another"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_answered_with_the_usage(arguments: list[str]):
    done = _run_py(ROOT, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: run.py")
    assert done.stdout == ""


@pytest.mark.parametrize(("option", "index"), [("--port", 0), ("--dagster-port", 1)])
def test_port_in_use_is_named_with_its_option(start_demo: StartDemo, folder: Path, option: str, index: int):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [free_port(), free_port()]
        ports[index] = taken.getsockname()[1]
        demo = start_demo(folder / f"port{index}", ports=(ports[0], ports[1]))
        assert demo.ended(30) == 1
    assert f"port {ports[index]} cannot be used" in the_line(demo.err)
    assert demo.err.endswith(f" {option}\n")
    assert processes_on(demo.data) == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://nobody@127.0.0.1:1/reportqueue", "Connection refused"),
        ("postgresql:///reportqueue?host=/nowhere", "No such file or directory"),
        ("mysql://root@127.0.0.1/reportqueue", "postgresql://"),
        ("postgresql://127.0.0.1", "postgresql://"),
    ],
)
def test_database_out_of_reach_is_one_line(start_demo: StartDemo, folder: Path, url: str, said: str):
    demo = start_demo(folder / "unreachable", DATABASE_URL=url)
    assert demo.ended(30) == 1
    line = the_line(demo.err)
    assert line.startswith("error: ")
    assert "DATABASE_URL" in line
    assert said in line


def test_data_folder_that_cannot_be_made_is_one_line(start_demo: StartDemo, folder: Path):
    (folder / "file").touch()
    demo = start_demo(folder / "file")
    assert demo.ended(30) == 1
    assert the_line(demo.err) == f"error: {folder / 'file'}: File exists"


def test_demo_stopped_while_it_starts_leaves_nothing_but_other_demos(start_demo: StartDemo, folder: Path):
    demo, other = start_demo(folder / "early"), start_demo(folder / "other")
    for one in (demo, other):
        one.wait_for("a migration runs", lambda one=one: one.children("migrate"), 60)

    code, seconds = demo.terminate()

    assert (code, demo.err) == (0, "")
    assert seconds < STOP_SECONDS
    assert processes_on(demo.data) == {}
    other.wait_for_line("Starting the web app")
    assert other.terminate()[0] == 0
    assert processes_on(other.data) == {}


@pytest.fixture
def demo_on_a_server(start_demo: StartDemo, folder: Path, fresh_database_url: str) -> Iterator[DemoProcess]:
    """A demo on the tests' own PostgreSQL, that answers."""
    demo = start_demo(folder / "server", DATABASE_URL=fresh_database_url)
    demo.wait_for_line("Ctrl-C stops everything")
    yield demo
    demo.clean_up()


def test_demo_on_a_given_server_ends_in_one_line_when_a_child_dies(
    demo_on_a_server: DemoProcess, start_demo: StartDemo, fresh_database_url: str
):
    demo = demo_on_a_server
    assert http("GET", f"{demo.web}/readyz").status == 200
    assert not (demo.data / "postgres").exists()

    another = start_demo(demo.data, DATABASE_URL=fresh_database_url)
    assert another.ended(30) == 1
    assert the_line(another.err) == f"error: another demo is running on {demo.data}"
    assert demo.process.poll() is None

    [scheduler] = demo.children("enqueue_due_reports")
    scheduler.kill()
    assert demo.ended(STOP_SECONDS) == 1
    log = demo.data / "logs" / "scheduler.log"
    assert the_line(demo.err) == f"error: scheduler was killed by SIGKILL; see {log}"
    assert log.exists()
    assert processes_on(demo.data) == {}
    # What it did not start it does not stop.
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM reportqueue_reportschedule").fetchone() == (6,)


def test_installation_fails_in_one_line_and_is_made_good_later(folder: Path):
    clone = _clone(folder / "a clone")
    wheel = _tiny_wheel(folder)
    offline = {"PIP_NO_INDEX": "1"}

    _require(clone, "no-such-package-anywhere==1.0")
    failed = _run_py(clone, "lint", **offline)
    assert failed.returncode == 1
    line = the_line(failed.stderr)
    log = clone / ".venv" / "install.log"
    assert line == f"error: pip could not install the requirements (no network?); see {log}"
    assert "no-such-package-anywhere" in log.read_text()

    _require(clone, f"tiny @ {wheel.as_uri()}")
    installed = _run_py(clone, "lint", **offline)
    assert installed.returncode == 0, installed.stderr
    assert installed.stdout.startswith("Installing ")
    assert installed.stdout.endswith(f"tiny 1.0 in {clone}/.venv\n")

    # From another folder, with a packages' path and a data folder of one's own.
    again = _run_py(clone, "lint", cwd=folder, PYTHONPATH=str(clone), REPORTQUEUE_DATA_DIR="here")
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"data in {folder / 'here'}\ntiny 1.0 in {clone}/.venv\n"

    # A checkout that has moved: its environment's programs name the old place.
    moved = clone.rename(folder / "moved clone")
    rebuilt = _run_py(moved, "lint", **offline)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert rebuilt.stdout.startswith("Installing ")
    assert rebuilt.stdout.endswith(f"tiny 1.0 in {moved}/.venv\n")


def test_installation_that_is_stopped_ends_its_pip_and_one_that_is_killed_keeps_others_out(folder: Path):
    clone = _clone(folder / "slow")
    _require(clone, "anything==1.0")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never answers
        silent.settimeout(90)
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, str(clone / "run.py"), "lint"],
                env=clean_environment(PIP_INDEX_URL=index, PIP_CONFIG_FILE=os.devnull, PIP_RETRIES="0"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        with start() as stopped, _ended(clone), silent.accept()[0]:
            assert any(" pip " in command for command in processes_on(clone).values())
            began = time.monotonic()
            stopped.terminate()
            assert (stopped.wait(60), stopped.stderr and stopped.stderr.read()) == (130, "")
            assert time.monotonic() - began < STOP_SECONDS
            assert processes_on(clone) == {}

        with start() as killed, _ended(clone), silent.accept()[0]:
            killed.kill()
            killed.wait()
            assert any(" pip " in command for command in processes_on(clone).values())
            with start() as waiting, _ended(clone):
                assert waiting.stdout is not None
                assert waiting.stdout.readline().startswith("Waiting for another run.py")
                waiting.terminate()
                assert waiting.wait(60) == 130


RECORDS = """
import os
from pathlib import Path


def test_it():
    Path(__file__).with_suffix(".ran").write_text(os.environ.get("PYTEST_XDIST_WORKER", "alone"))
    assert Path(__file__).stem not in os.environ.get("FAILING", "")
"""
WAITS = """
import time
from pathlib import Path

import pytest


@pytest.fixture
def waiting():
    yield
    Path("ended").touch()


def test_it(waiting):
    Path("began").touch()
    time.sleep(300)
"""


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("test_unit", "failed: tests in 3 processes"),
        ("test_chaos", "failed: tests that run alone"),
        ("", "all passed"),
    ],
)
def test_all_tests_run_in_two_parts_whichever_fails(tmp_path: Path, failing: str, said: str):
    alone = {"test_acceptance", "test_chaos", "test_simulator"}
    folders = ("unit", "a_new_one", "acceptance", "chaos", "simulator")
    checkout = _checkout(tmp_path, {f"{folder}/test_{folder}.py": RECORDS for folder in folders})
    with _run_tests(checkout, FAILING=failing) as running:
        out, _ = running.communicate(timeout=120)
    assert out.endswith(f"test: {said}\n"), out
    assert running.returncode == bool(failing)
    workers = {path.stem: path.read_text() for path in checkout.rglob("*.ran")}
    assert set(workers) == {f"test_{folder}" for folder in folders}
    assert {name for name, worker in workers.items() if worker == "alone"} == alone


def test_arguments_go_to_one_run_of_pytest(tmp_path: Path):
    checkout = _checkout(
        tmp_path, {f"{folder}/test_{folder}.py": RECORDS for folder in ("unit", "chaos", "acceptance")}
    )
    with _run_tests(checkout, "-k", "unit or chaos", FAILING="test_acceptance") as running:
        out, _ = running.communicate(timeout=120)
    assert running.returncode == 0, out
    assert "2 passed, 1 deselected" in out
    assert {path.stem: path.read_text() for path in checkout.rglob("*.ran")} == dict.fromkeys(
        ("test_unit", "test_chaos"), "alone"
    )


@pytest.mark.parametrize("stop", ["Ctrl-C", "SIGTERM"])
def test_tests_that_are_stopped_tear_down_and_start_no_second_part(tmp_path: Path, stop: str):
    checkout = _checkout(tmp_path, {"unit/test_waits.py": WAITS, "chaos/test_chaos.py": RECORDS})
    with _run_tests(checkout) as running, _ended(checkout):
        wait_for("a test began", (checkout / "began").exists, 120)
        if stop == "Ctrl-C":
            os.killpg(running.pid, signal.SIGINT)  # a terminal sends it to all of the foreground
        else:
            running.terminate()
        running.communicate(timeout=25)  # sooner than it is killed for not answering
        assert running.returncode == 130
        assert processes_on(checkout) == {}
    assert (checkout / "ended").exists()
    assert list(checkout.rglob("*.ran")) == []


def _checkout(path: Path, tests: dict[str, str]) -> Path:
    """The code of `run.py`, and tests of one's own."""
    clone = _clone(path / "tested")
    shutil.copy(ROOT / "tools" / "runner" / "__main__.py", clone / "tools" / "runner")
    for name, text in tests.items():
        (clone / "tests" / name).parent.mkdir(parents=True)
        (clone / "tests" / name).write_text(text)
    return clone


def _run_tests(checkout: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`run.py test` in the environment that is there, in a group of its own, with a database that nobody asks for."""
    # Of pytest's plugins only the one in question: the others take seconds to load, in each of three processes.
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    url = "postgresql://nobody@127.0.0.1:1/none"
    return subprocess.Popen(
        [sys.executable, "-m", "tools.runner", "test", *arguments],
        cwd=checkout,
        env=clean_environment(DATABASE_URL=url, **plugins, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def _ended(clone: Path) -> Iterator[None]:
    """Ends what still runs in a clone afterwards."""
    try:
        yield
    finally:
        for pid in processes_on(clone):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _run_py(
    checkout: Path, *arguments: str, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(checkout / "run.py"), *arguments],
        cwd=cwd or checkout,
        env=clean_environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _clone(path: Path) -> Path:
    """What of a checkout installs, and a main program that only says where it is."""
    (path / "project").mkdir(parents=True)
    shutil.copy(ROOT / "run.py", path)
    for name in ("__init__.py", "environment.py"):
        shutil.copy(ROOT / "project" / name, path / "project")
    shutil.copytree(ROOT / "tools" / "runner", path / "tools" / "runner", ignore=shutil.ignore_patterns("__pyc*"))
    shutil.copy(ROOT / "tools" / "__init__.py", path / "tools")
    (path / "tools" / "runner" / "__main__.py").write_text(
        "import os, subprocess, sys\n"
        "if data := os.environ.get('REPORTQUEUE_DATA_DIR'):\n"
        "    print('data in', data, flush=True)\n"
        "subprocess.run([os.path.join(sys.prefix, 'bin', 'tiny')], check=True)\n"
    )
    return path


def _require(clone: Path, requirement: str) -> None:
    (clone / "requirements.txt").write_text(f"{requirement}\n")


def _tiny_wheel(folder: Path) -> Path:
    """A package with one program, for a pip without a network."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "import sys\n\ndef main():\n    print('tiny 1.0 in', sys.prefix)\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntiny = tiny:main\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*wheel.namelist(), f"{info}/RECORD"]))
    return path
