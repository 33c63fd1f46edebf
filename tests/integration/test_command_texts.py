"""Texts on the command line: what is no text is refused with exit code 2, wherever a command takes one."""

from __future__ import annotations

import argparse
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

from project.environment import BASE_DIR
from reportqueue.management import commands

OWN = [module.name for module in pkgutil.iter_modules(commands.__path__)]


def taken(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Any, Any]]:
    """Each argument of a command, and of its subcommands, that takes a value."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from ((f"{name} {option}", owner, found) for option, owner, found in taken(inner))
        elif action.nargs != 0:
            yield action.dest, parser, action


def arguments() -> list[Any]:
    django = {action.dest for action in load_command_class("django.core", "check").create_parser("x", "y")._actions}
    found = []
    for command in OWN:
        parser = load_command_class("reportqueue", command).create_parser("manage.py", command)
        own = [one for one in taken(parser) if one[2].dest not in django]
        found += [pytest.param(owner, action, id=f"{command} {name}") for name, owner, action in own]
    return found


@pytest.mark.parametrize(("parser", "action"), arguments())
@pytest.mark.parametrize("text", ["\udcff", "a\udcffb", "\0"])
def test_what_is_no_text_is_refused(parser: Any, action: Any, text: str):
    if action.type is Path:
        return  # the name of a file may be any bytes
    with pytest.raises(argparse.ArgumentError):
        parser._check_value(action, parser._get_value(action, text))


@pytest.mark.parametrize(
    "arguments",
    [
        ["report_queue", "pause", "--report", b"\xff"],
        ["report_queue", "pause", "--note", b"a\xff"],
        ["report_queue", "cancel", "--all", "--reason", b"\xff"],
        ["report_queue", "list", "--route", b"\xff"],
        ["create_consumer", b"\xff"],
    ],
)
def test_the_exit_code_is_2_and_there_is_no_traceback(arguments: list[Any]):
    found = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        capture_output=True,
        env={**os.environ, "DEBUG": "1"},
        check=False,
    )
    assert found.returncode == 2, found.stderr
    assert b"Traceback" not in found.stderr
    assert found.stdout == b""
