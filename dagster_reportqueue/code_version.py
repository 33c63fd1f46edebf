"""Detects whether the code on the disk has changed since a process loaded it."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass

Stamp = tuple[int, int, int]
CLOCK_GRAIN_NS = 20_000_000
"""A file's times may lag behind the clock by one tick of the kernel."""


@dataclass(frozen=True)
class Sources:
    """The Python files in the folders from which modules outside site-packages were loaded, also files not loaded yet.

    Installing, upgrading or removing a package changes the times of its site-packages folder. Data files that a module
    reads are not checked.
    """

    folders: frozenset[str]
    installed: frozenset[str]
    stamps: dict[str, Stamp]

    @classmethod
    def of_process(cls) -> Sources:
        """The current state of the code that this process has loaded."""
        installed = frozenset(path for path in _site_packages() if os.path.isdir(path))
        library = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
        foreign = tuple(path + os.sep for path in [*map(os.path.realpath, installed), *library])
        loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        places = (os.path.dirname(os.path.realpath(path)) for path in loaded if path)
        folders = frozenset(place for place in places if not (place + os.sep).startswith(foreign))
        return cls.of(folders, installed)

    @classmethod
    def of(cls, folders: Iterable[str], installed: Iterable[str]) -> Sources:
        """The current state of these folders and of these site-packages folders."""
        return cls(frozenset(folders), frozenset(installed), _stamps(folders, installed))

    def changed(self) -> str | None:
        """A path that has changed, or None."""
        now = _stamps(self.folders, self.installed)
        if now == self.stamps:
            return None
        differing = {path for path in now.keys() | self.stamps.keys() if now.get(path) != self.stamps.get(path)}
        return min(differing)

    def changed_since(self, time_ns: int) -> str | None:
        """A path that was written since `time_ns`, so possibly after it was loaded; or None."""
        for path, (_, changed, _) in self.stamps.items():
            if changed >= time_ns - CLOCK_GRAIN_NS:
                return path
        return None


def _site_packages() -> Iterable[str]:
    by_scheme = (sysconfig.get_path(name) for name in ("purelib", "platlib"))
    return {*site.getsitepackages(), site.getusersitepackages(), *by_scheme}


def _stamps(folders: Iterable[str], installed: Iterable[str]) -> dict[str, Stamp]:
    stamps: dict[str, Stamp] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        stamps[entry.path] = _stamp(entry.stat())
        except OSError:
            stamps[folder] = (0, 0, 0)  # the folder, or a file in it, was just removed
    for folder in installed:
        try:
            stamps[folder] = _stamp(os.stat(folder))
        except OSError:
            stamps[folder] = (0, 0, 0)  # it is being replaced
    return stamps


def _stamp(found: os.stat_result) -> Stamp:
    # Also the change time: a copy that keeps the modification time (rsync -t) does not keep the change time.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size
