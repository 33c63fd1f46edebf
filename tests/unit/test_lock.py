"""requirements.txt: every package is pinned to one version and to its files."""

from __future__ import annotations

import re
from pathlib import Path

LOCK = Path(__file__).resolve().parents[2] / "requirements.txt"


def test_every_package_has_one_version_and_hashes():
    entries = LOCK.read_text().replace("\\\n", " ").splitlines()
    assert len(entries) > 100
    wrong = [
        entry[:60]
        for entry in entries
        if not re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+ *", entry)
    ]
    assert wrong == []
