"""docs/tutorial.md, from an empty folder to a schedule that fires: each block, and what a person clicks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.acceptance.conftest import new_road
from tests.acceptance.demos import wait_for
from tests.acceptance.roads import APPEND, PASSWORD, SAVE, Road
from tests.documents import ROOT, blocks
from tests.integration.test_admin_schedule_form import FORM

pytestmark = pytest.mark.timeout(900)  # an installation takes long on a busy machine
PAGE = "docs/tutorial.md"
ADMIN = "/admin/reportqueue"
SECONDS = 300.0


@pytest.fixture
def own_road(wheel: Path, pinned: Path) -> Iterator[Road]:
    """A road of its own: the page begins where the README does."""
    with new_road(wheel, pinned) as made:
        yield made


class Reader:
    """Somebody who follows the page: types its blocks, and clicks in the admin."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._left = [block for block in blocks(PAGE) if not block.not_run]
        self._home = road.django.home / "statements"
        self._browser = requests.Session()
        self._browser.trust_env = False

    def read(self, section: str) -> str:
        """Do what the section's blocks say; returns what they print."""
        printed = []
        while self._left and self._left[0].section == section:
            block = self._left.pop(0)
            text = self._road.text(block)
            if saved := SAVE.search(block.before):
                (self._home / saved[1]).write_text(text)
            elif added := APPEND.search(block.before):
                with (self._home / added[1]).open("a") as file:
                    file.write(f"\n{text}")
            elif block.language == "python":
                (self._home / "typed.py").write_text(text)
                printed.append(self._road.django.run("python manage.py shell <typed.py"))
            elif block.language == "sh":
                self._road.type(self._road.django, text)
            else:
                printed.append(text)  # what the page shows of the row
        return "\n".join(printed)

    def click(self, path: str, **values: str) -> None:
        """Post a form of the admin, as the person who has made it."""
        if not self._browser.cookies:
            self._post("/admin/login/", username="root", password=PASSWORD)
        self._post(path, **values)

    def see(self, modifier_id: int, status: str) -> dict[str, Any]:
        """The newest row of this modifier, once it has the status."""

        def seen() -> dict[str, Any] | None:
            rows = [row for row in self._road.rows() if row["modifier_id"] == modifier_id]
            newest = max(rows, key=lambda row: row["queue_id"], default=None)
            return newest if newest is not None and newest["status"] == status else None

        return wait_for(f"{status} row of {modifier_id}", seen, SECONDS)

    def left(self) -> list[str]:
        """The blocks that nobody has read."""
        return [str(block) for block in self._left]

    def _post(self, path: str, **values: str) -> None:
        address = f"{self._road.address}{path}"
        self._browser.get(f"{self._road.address}/admin/login/", timeout=30)  # for the token of the form
        form = {"csrfmiddlewaretoken": self._browser.cookies["csrftoken"], **values}
        answer = self._browser.post(address, form, timeout=30, headers={"Referer": address}, allow_redirects=False)
        assert answer.status_code == 302, answer.text


def test_a_person_goes_from_an_empty_folder_to_a_schedule_of_a_report_of_ones_own(own_road: Road):
    reader = Reader(own_road)
    reader.read("1. A folder with everything")
    reader.read("2. The queue in Django")
    assert "1 queued" in reader.read("3. A row that waits")
    reader.read("4. A job of your own")
    reader.read("5. The first report")
    made = reader.see(17, "succeeded")
    assert made["result"] == {"file": "statement-17.html", "total": 200}
    assert str(made["result"]).replace("'", '"') in (ROOT / PAGE).read_text()

    said = reader.read("6. A report that fails")
    failed = reader.see(18, "failed")
    shown = failed["error"].strip().splitlines()[-1]
    assert re.search(rf"^{re.escape(shown)}$", said, re.MULTILINE)

    reader.read("7. Repair it, and requeue")
    reader.click(f"{ADMIN}/reportqueue/{failed['queue_id']}/requeue/", reason="the sales are there")
    assert reader.see(18, "succeeded")["result"]["total"] == 45
    assert len(own_road.row(failed["queue_id"])["attempts"]) == 2

    reader.click(
        f"{ADMIN}/reportschedule/add/",
        **{**FORM, "report_id": "1", "modifier_id": "17", "cron": "* * * * *", "timezone": "Europe/Berlin"},
    )
    wait_for("a row of the schedule", lambda: reader.see(17, "succeeded")["source"] == "schedule", SECONDS)
    assert reader.left() == []
