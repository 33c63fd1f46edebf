"""The numbers on the command line of `run.py`: anything else is refused with the option's name and its range."""

from __future__ import annotations

import pytest

from tools.runner import arguments

HUGE = "9" * 5_000
PORT, NUMBER, SEED = "from 1 to 65535", "from 0 to 1000000000", f"from 0 to {2**63 - 1}"
WRONG = ["²", "", "-5", "1.5", "1e3", "0x10", "1_000", " 1", "five", "१", HUGE, "9" * 19]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value[:20]))
@pytest.mark.parametrize(
    ("command", "option", "allowed"),
    [
        (["demo"], "--port", PORT),
        (["demo"], "--dagster-port", PORT),
        (["demo", "--once"], "--timeout", "from 1 to 86400"),
        (["simulate"], "--seed", SEED),
        (["simulate"], "--faults", "from 1 to 1000000000"),
        (["simulate", "--seed=1"], "--scenario", NUMBER),
        (["chaos"], "--minutes", "from 1 to 1440"),
        (["chaos"], "--seed", SEED),
    ],
)
def test_what_is_no_number_of_the_range_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    option: str,
    allowed: str,
    value: str,
):
    monkeypatch.setattr("sys.argv", ["run.py", *command, f"{option}={value}"])
    with pytest.raises(SystemExit) as ended:
        arguments.parse()
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"argument {option}: {value[:100]!r} is not a whole number {allowed}")


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("demo --port=1", "port", 1),
        ("demo --port=65535", "port", 65_535),
        ("demo --timeout=86400", "timeout", 86_400),
        ("simulate --seed=0 --scenario=0", "scenario", 0),
        ("simulate --faults=1000000000", "faults", 1_000_000_000),
        (f"chaos --seed={2**63 - 1}", "seed", 2**63 - 1),
        ("chaos --minutes=1440", "minutes", 1_440),
    ],
)
def test_the_ends_of_the_range_are_fine(monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: int):
    monkeypatch.setattr("sys.argv", ["run.py", *command.split()])
    assert getattr(arguments.parse(), name) == value
