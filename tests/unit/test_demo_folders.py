"""The demo's data folder: what other users of the machine may not see."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tools.runner import demo


@pytest.mark.parametrize("exists", [False, True], ids=["new", "of an earlier demo"])
def test_logs_artifacts_and_dagsters_home_are_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
):
    monkeypatch.setattr(demo, "DATA_DIR", tmp_path)
    monkeypatch.setattr(demo, "_run", lambda arguments: 0)
    if exists:
        for name in demo.PRIVATE:
            (tmp_path / name).mkdir(mode=0o777)
            (tmp_path / name).chmod(0o777)
    assert demo.run(None) == 0  # type: ignore[arg-type]
    assert set(demo.PRIVATE) == {"logs", "artifacts", "dagster", "mail"}
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in demo.PRIVATE} == {0o700}
