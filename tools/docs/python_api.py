"""The reference of the Python API: which names it has. Sphinx writes their signatures and docstrings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import FunctionType, GenericAlias, ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

DJANGO = (
    "reportqueue.queue",
    "reportqueue.schedules",
    "reportqueue.erasure",
    "reportqueue.testing",
    "reportqueue.signals",
    "reportqueue.errors",
)
"""The modules of the Django app from which a project imports."""
DAGSTER = ("dagster_reportqueue", "dagster_reportqueue.client", "dagster_reportqueue.testing", "reportcron")
"""Those of the Dagster side, and the cron rules."""
OURS = ("reportqueue", "dagster_reportqueue", "reportcron")


def django_part() -> str:
    """A section for each module of the Django app."""
    return _sections(DJANGO)


def dagster_part() -> str:
    """A section for each module of the Dagster library."""
    return _sections(DAGSTER)


def _sections(modules: Sequence[str]) -> str:
    known: set[int] = set()
    return "\n".join(_section(import_module(name), known) for name in modules)


def _section(module: ModuleType, known: set[int]) -> str:
    names = [name for name in _public(module) if id(getattr(module, name)) not in known]
    known.update(id(getattr(module, name)) for name in names)
    directives = "\n".join(_directive(module, name) for name in sorted(names, key=_by_kind(module)))
    lines = [
        f"## `{module.__name__}`",
        "",
        "```{eval-rst}",
        f".. automodule:: {module.__name__}",
        "   :no-members:",
        "",
    ]
    return "\n".join([*lines, directives, "```", ""])


def _public(module: ModuleType) -> Iterable[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]


def _by_kind(module: ModuleType) -> Callable[[str], Any]:
    """Functions and values come before classes."""
    return lambda name: (isinstance(getattr(module, name), type), name)


def _directive(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    path = f"{module.__name__}.{name}"
    if isinstance(value, GenericAlias):  # it has the docstring of another type
        return f".. py:data:: {name}\n   :value: {value}\n\n   {_said_of(name, value)}\n"
    if isinstance(value, type):
        kind = "exception" if issubclass(value, BaseException) else "class"
    else:
        kind = "function" if isinstance(value, FunctionType) else "data"
    return f".. auto{kind}:: {path}\n"


def _said_of(name: str, value: object) -> str:
    """The text below the assignment of a name, wherever that is."""
    for home, module in list(sys.modules.items()):
        if home.startswith(OURS) and vars(module).get(name) is value:
            analyzer = ModuleAnalyzer.for_module(home)
            if lines := analyzer.find_attr_docs().get(("", name)):
                return " ".join(lines).strip()
    return ""
