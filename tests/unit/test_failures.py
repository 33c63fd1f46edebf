"""Which errors are one failure: texts that differ only in ids, values, times and places share a fingerprint."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable

import pytest

from reportqueue import failures

FRAME = '  File "{path}", line {line}, in {function}\n    return work()\n           ^^^^^^\n'
OWN = "/srv/app/reports/weather.py"
LIBRARY = "/srv/app/.venv/lib/python3.12/site-packages/requests/api.py"
STANDARD = "/usr/lib/python3.12/json/decoder.py"


def python_error(last: str, *frames: tuple[str, str], line: int = 10) -> str:
    """A traceback of Python: its frames are paths and functions, its end is `last`."""
    shown = "".join(FRAME.format(path=path, line=line, function=function) for path, function in frames)
    return f"Traceback (most recent call last):\n{shown}{last}\n"


def raised(call: Callable[[], object]) -> str:
    """The traceback of what a call raises."""
    try:
        call()
    except Exception as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("It did not raise.")


UUID, OTHER_UUID = "0b1fa2c3-1111-2222-3333-444455556666", "ffffffff-0000-4000-8000-00000000000a"
ALIKE = [
    (
        python_error("ValueError: order 17 has no lines", (OWN, "make"), line=10),
        python_error("ValueError: order 4711 has no lines", (OWN, "make"), line=12),
    ),
    (
        python_error("KeyError: 'rain'", ("/srv/app/2026-11/weather.py", "make")),
        python_error("KeyError: 'wind'", ("/srv/app/2026-12/weather.py", "make")),
    ),
    (f"RuntimeError: run {UUID} is gone", f"RuntimeError: run {OTHER_UUID} is gone"),
    ("OSError: cannot write /tmp/a/b.csv", "OSError: cannot write /data/9/c.csv"),
    ("OSError: cannot write C:\\a\\b.csv", "OSError: cannot write D:\\x.csv"),
    ("TypeError: <Order object at 0x7f01a2> is bad", "TypeError: <Order object at 0x7fffff> is bad"),
    ("TimeoutError: 10.0.0.1:5432 did not answer", "TimeoutError: 192.168.7.20:5433 did not answer"),
    ("TimeoutError: 2001:db8:0:1::5 did not answer", "TimeoutError: 2001:db8:0:2::77 did not answer"),
    ("LookupError: no user a.b@example.com", "LookupError: no user zoe@mail.example.org"),
    ("HTTPError: 404 for https://x.example/a?b=1", "HTTPError: 404 for https://y.example/c"),
    ("ValueError: no rows since 2026-11-23T08:00:00Z", "ValueError: no rows since 2026-01-01 09:30:00.125+01:00"),
    ("ValueError: bad ids [1, 2, 3]", "ValueError: bad ids [4]"),
    ("ValueError: commit a1b2c3d is unknown", "ValueError: commit 9f8e7d6c5 is unknown"),
    ("ValueError: token deadbee1 is unknown", "ValueError: token 12345678 is unknown"),
    ("ValueError: bad row 'a" + "x" * 2_000 + "'", "ValueError: bad row 'b" + "y" * 3_000 + "'"),
    (
        f"Run {UUID} sent no more heartbeats; its lease expired at 2026-11-23T08:00:00Z.",
        f"Run {OTHER_UUID} sent no more heartbeats; its lease expired at 2026-12-01T23:59:59Z.",
    ),
    ("Its runs were interrupted 6 times. Run 1 stopped.", "Its runs were interrupted 7 times. Run 2 stopped."),
    (
        f"Run {UUID} ended without starting: no module\n3 runs have ended (MAX_UNSTARTED_RUNS): it has failed.",
        f"Run {OTHER_UUID} ended without starting: no module\n5 runs have ended (MAX_UNSTARTED_RUNS): it has failed.",
    ),
    ("Error: boom 1\n    at make (a.js:1:2)\n    at run (b.js:3:4)", "Error: boom 2\n    at other (c.js:9:9)"),
]  # fmt: skip
DIFFERENT = [
    (python_error("ValueError: no", (OWN, "make")), python_error("TypeError: no", (OWN, "make"))),
    (python_error("ValueError: no rows", (OWN, "make")), python_error("ValueError: no lines", (OWN, "make"))),
    (python_error("ValueError: no", (OWN, "make")), python_error("ValueError: no", (OWN, "load"))),
    (python_error("ValueError: no", (OWN, "make")), python_error("ValueError: no", ("/srv/app/stocks.py", "make"))),
    ("ValueError: no", python_error("ValueError: no", (OWN, "make"))),
    ("HTTP404Error: no", "HTTP500Error: no"),
    ('disk full:\n{\n  "free": "0"\n}', 'no such order:\n{\n  "order": "17"\n}'),
    ("disk full\n-----", "no such order\n-----"),
    ("Run 1 ended without starting: no module", "Run 1 ended without starting: no memory"),
    ("", "Lease lost"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_errors_that_differ_only_in_what_changes_from_row_to_row_are_alike(one: str, other: str):
    assert one != other
    assert failures.read(one) == failures.read(other) or "token" in one  # an id without a letter is shown as a number
    assert failures.fingerprint(one) == failures.fingerprint(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_exceptions_and_other_places_are_not_alike(one: str, other: str):
    assert failures.fingerprint(one) != failures.fingerprint(other)


@pytest.mark.parametrize(
    ("error", "title"),
    [
        ("", ""),
        ("ValueError\n", "ValueError"),
        (python_error("app.errors.NoRows: 5 of 'x'", (OWN, "make")), "app.errors.NoRows: <n> of <value>"),
        (python_error("db2.errors.Bad: no\nDETAIL:  Key (id)=(5) exists.", (OWN, "make")), "db2.errors.Bad: no"),
        ("It can't find the user's file", "It can't find the user's file"),
        ("Took 1.5e3 s, \x1b[1mthen\tfailed", "Took <n> s, [<n>mthen failed"),
        ("Exception: a/b of application/json", "Exception: a/b of application/json"),
        ("Caused by: java.SQLException: no\n\tat a.C(C.java:5)\n\t... 12 more", "Caused by: java.SQLException: no"),
    ],
)  # fmt: skip
def test_a_title_is_the_exception_in_one_line(error: str, title: str):
    assert failures.title(error) == title


def test_the_frame_is_the_last_one_of_the_projects_own_code():
    error = python_error("ValueError: no", (OWN, "make"), (LIBRARY, "get"), (STANDARD, "decode"), ("<string>", "f"))
    assert failures.read(error).frame == "weather.py, in make"
    for path in (r"C:\Python312\Lib\json\decoder.py", "/usr/lib/python3/dist-packages/x.py", LIBRARY, "<frozen os>"):
        assert failures.read(python_error("ValueError: no", (path, "f"))).frame == ""
    assert failures.read(python_error("ValueError: no", (r"D:\app\weather.py", "make"))).frame == "weather.py, in make"


def chained() -> None:
    def load() -> None:
        raise KeyError("rain")

    def make() -> None:
        try:
            load()
        except KeyError as error:
            raise ValueError("no weather") from error

    make()


def grouped() -> None:
    def one() -> None:
        raise ValueError("order 5")

    try:
        one()
    except ValueError as error:
        raise ExceptionGroup("several", [error]) from None


def test_of_chained_errors_the_last_one_counts():
    cause = raised(chained)
    assert "The above exception was the direct cause" in cause
    assert failures.read(cause).title == "ValueError: no weather"
    assert failures.read(cause).frame == "test_failures.py, in make"
    first = python_error("KeyError: 'rain'", (OWN, "load"))
    last = python_error("TypeError: no page", (LIBRARY, "get"))
    handled = f"{first}\nDuring handling of the above exception, another exception occurred:\n\n{last}"
    assert failures.read(handled) == failures.read(last)


def test_of_a_group_of_errors_the_last_one_counts():
    assert failures.read(raised(grouped)).title == "ValueError: order <n>"
    assert failures.read(raised(grouped)).frame == "test_failures.py, in one"


def test_an_error_that_dagster_has_stored_has_its_exception_above_its_frames():
    frames = FRAME.format(path=OWN, line=1, function="make")
    error = (
        f"dagster.Failure: no\n\nStack Trace:\n{frames}\nThe above exception was caused by the following exception:\n"
    )
    error += f"ValueError: order 5\n\nStack Trace:\n{frames}"
    assert (failures.title(error), failures.read(error).frame) == ("ValueError: order <n>", "weather.py, in make")


def test_a_fingerprint_is_the_same_in_each_process():
    error = python_error("ValueError: order 5", (OWN, "make"))
    code = f"from reportqueue import failures; print(failures.fingerprint({error!r}))"
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert ran.stdout.strip() == failures.fingerprint(error)
    assert failures.is_fingerprint(failures.fingerprint(error))
    for text in ("", "x" * 16, "A" * 16, "0" * 15, "0" * 17, "0" * 16 + "\n", "\u0660" * 16):
        assert not failures.is_fingerprint(text)


# fmt: off
HOSTILE = [
    "a", "'", '"', "`", "'a", "a'", "bbb'", "a.", "a.b.", "1-", "/", "/a", "0:", "ab:", "a@", "a.@", "1a", "1,", "<n>",
    "http", "a+.", "a://", "|", "+-", " ", "\t", "\n", "\r", "\x00", 'File "', 'File "a"\n', "A_", "A1a", "A.",
    "10.10.", "\\", "c:\\", "--1", "1e", "-", "f", "f1", "2026-11-23T", "12:30:", "at \n",
    "Traceback (most recent call last):\n", "é", "\ud800", "(MAX_UNSTARTED_RUNS)\n", "~/", "<id>", "<n>,", "¹", "1.",
]
# fmt: on


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_text_has_a_short_title_and_its_beginning_is_not_read(text: str):
    long = (text * failures.READ)[: failures.READ]
    found = failures.read(long)
    assert len(found.title) <= failures.MAX_TITLE
    assert len(found.frame) <= failures.MAX_FRAME
    assert not set(found.title) & set("\n\r\t\x00")
    assert failures.is_fingerprint(found.fingerprint)
    assert failures.read("Traceback (most recent call last):\n" * 50_000 + long) == found


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_reading_takes_time_in_proportion_to_the_length(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failures, "READ", 10**6)
    monkeypatch.setattr(failures, "MAX_LINE", 10**6)

    def seconds(length: int) -> float:
        error, took = (text * length)[:length], []
        for _ in range(3):
            before = time.process_time()
            failures.read(error)
            took.append(time.process_time() - before)
        return min(took)

    # Eight times the length: in proportion, 8 times as long; by its square, 64 times.
    assert seconds(16_000) < 30 * max(seconds(2_000), 0.0002)
