"""The reference of the management commands, from their parsers."""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Iterator

from django.core.management import BaseCommand, load_command_class

from reportqueue.management import commands
from tools.docs.markdown import code, plain, table


def part() -> str:
    """A section for each command, and one for each of its subcommands."""
    return "\n".join(
        _section(name) for name in sorted(module.name for module in pkgutil.iter_modules(commands.__path__))
    )


def _section(name: str) -> str:
    command = load_command_class("reportqueue", name)
    parser = command.create_parser("manage.py", name)
    return "\n".join(_described(parser, name, _inherited(), level=2))


def _inherited() -> set[str]:
    """What every command of Django takes."""
    parser = BaseCommand().create_parser("manage.py", "any")
    return {action.dest for action in parser._actions}


def _described(parser: argparse.ArgumentParser, name: str, inherited: set[str], level: int) -> Iterator[str]:
    yield f"{'#' * level} {code(name)}\n"
    if parser.description:
        yield f"{plain(parser.description)}\n"
    own = [action for action in parser._actions if action.dest not in inherited and action.help != argparse.SUPPRESS]
    parts = [action for action in own if isinstance(action, argparse._SubParsersAction)]
    yield table(("argument", "what it does"), [(_form(one), _text(one)) for one in own if one not in parts])
    for action in parts:
        for inner in action._choices_actions:
            found = action.choices[inner.dest]
            found.description = found.description or inner.help
            yield from _described(found, f"{name} {inner.dest}", inherited, level + 1)


def _form(action: argparse.Action) -> str:
    shown = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    value = " ".join(shown) if isinstance(shown, tuple) else shown
    if not action.option_strings:
        return code(f"{value} ..." if action.nargs in ("*", "+") else value)
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(code(f"{option}{takes}") for option in action.option_strings)


def _text(action: argparse.Action) -> str:
    text = plain((action.help or "") % {**vars(action), "prog": "manage.py"})
    if action.choices is None:
        return text
    return f"{text}{'; ' if text else ''}one of {', '.join(code(str(choice)) for choice in action.choices)}"
