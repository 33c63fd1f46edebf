"""Where the demo's files are: a file is replaced as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.core.files.storage import FileSystemStorage


class WholeFileStorage(FileSystemStorage):
    """Writes a file under another name first. If that fails, as on a full disk, an earlier file is still there."""

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
