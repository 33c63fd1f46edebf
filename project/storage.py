"""Where the runs' files are: on this machine's disk, or in any other storage of Django that `STORAGES` names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage


def create(storage: Storage, name: str, content: bytes) -> bool:
    """Store a new file; returns False, and changes nothing, if there is one of that name."""
    if isinstance(storage, WholeFileStorage):
        return storage.create(name, ContentFile(content))
    if storage.exists(name):
        return False
    stored = storage.save(name, ContentFile(content))
    if stored == name:
        return True
    storage.delete(stored)  # another call was faster
    return False


def replace(storage: Storage, name: str, content: bytes) -> None:
    """Store a file in the place of an earlier one of that name."""
    stored = storage.save(name, ContentFile(content))
    if stored != name:
        # A storage that does not overwrite. The content is stored already, so there is room for it.
        storage.delete(name)
        storage.save(name, ContentFile(content))
        storage.delete(stored)


class WholeFileStorage(FileSystemStorage):
    """Replaces a file as a whole or not at all; other users of the machine may not read it.

    It writes under another name first. If that fails, as on a full disk, an earlier file is still there.
    """

    def __init__(self, **options: Any) -> None:
        """With the options of `FileSystemStorage`."""
        super().__init__(**{"file_permissions_mode": 0o600, "directory_permissions_mode": 0o700, **options})

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """The name itself: a file of that name is replaced."""
        return name

    def create(self, name: str, content: Any) -> bool:
        """Store a new file; returns False, and changes nothing, if there is one of that name."""
        with self._written(name, content) as written:
            try:
                os.link(written, self.path(name))
            except FileExistsError:
                return False
        return True

    def _save(self, name: str, content: Any) -> str:
        with self._written(name, content) as written:
            os.replace(written, self.path(name))
        return name

    @contextmanager
    def _written(self, name: str, content: Any) -> Iterator[Path]:
        """The content in a file beside the one of that name; it is gone afterwards."""
        beside = Path(self.path(f"{name}.{uuid4().hex}"))
        try:
            super()._save(str(beside), content)  # type: ignore[misc]  # the stubs leave it out
            yield beside
        finally:
            beside.unlink(missing_ok=True)
