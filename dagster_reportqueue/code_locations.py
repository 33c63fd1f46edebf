"""Names code locations as `module:attribute`, as settings do, and as Dagster does."""

from __future__ import annotations

import os
import sys

from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import RepositoryPythonOrigin


def origin_of(place: str) -> RepositoryPythonOrigin:
    """Dagster's name for the code location at `module:attribute`. Raises `ValueError` for any other text."""
    module, _, attribute = place.partition(":")
    if not module or not attribute:
        text = (
            f"warm_at_start names code locations as module:attribute, such as reports.definitions:defs; not {place!r}."
        )
        raise ValueError(text)
    return RepositoryPythonOrigin(sys.executable, ModuleCodePointer(module, attribute, os.getcwd()))
