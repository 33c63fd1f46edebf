"""The cells of `run.py matrix`: which versions are tested together. Uses the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from project.environment import BASE_DIR

FOLDER = BASE_DIR / ".matrix"


@dataclass(frozen=True)
class Cell:
    """One combination of versions. `pins` narrow the package's ranges."""

    name: str
    python: str
    postgres: int
    lowest: bool = False
    pins: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The folder of the environment and of the files about it."""
        return FOLDER / self.name

    @property
    def interpreter(self) -> Path:
        """The Python of the environment."""
        return self.home / "venv" / "bin" / "python"


CELLS = (
    Cell("lowest", python="3.11", postgres=15, lowest=True),
    Cell("django-5.2", python="3.12", postgres=15, pins=("django==5.2.*", "dagster==1.12.*")),
    Cell("django-6.0", python="3.12", postgres=18, pins=("django==6.0.*",)),
    Cell("newest", python="3.13", postgres=18),
    Cell("python-3.14", python="3.14", postgres=18),
)
"""Python 3.11 has no Django after 5.2, so it stands beside the lowest versions."""
