"""Every block of the pages is executed, in order, with the wheel. `tests/acceptance/roads.py` says how."""

from __future__ import annotations

import pytest

from tests.acceptance.roads import Road
from tests.documents import RUN, Block, blocks, pages

pytestmark = pytest.mark.timeout(900)  # an installation takes long on a busy machine
PAGES = [page for page in pages() if page != "README.md" and not all(block.is_excused for block in blocks(page, *RUN))]


@pytest.fixture(scope="module")
def walked(road: Road) -> Road:
    """The road at the end of the README: all that it starts runs, and the two reports that it enqueues are made."""
    road.follow_readme()
    road.wait_until_made(2)
    return road


def not_executed(page: str, road: Road) -> list[Block]:
    """The page's blocks without an excuse of which nobody took notice."""
    return [block for block in blocks(page, *RUN) if block not in road.ran and not block.is_excused]


def test_the_readme_makes_its_reports(walked: Road):
    assert not_executed("README.md", walked) == []
    first, second = walked.rows()
    assert (first["report_id"], first["modifier_id"], first["params"]) == (3, 17, {"order": 4711})
    assert (second["report_id"], second["modifier_id"]) == (3, 18)
    assert second["result"] == {"artifacts": {"report.pdf": "https://example.com/reports/3/18.pdf"}}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_goes_on_where_the_readme_ends(walked: Road, page: str):
    walked.dagster.stop()  # what the page says of sensors is tried without those of the README
    walked.follow(page)
    assert not_executed(page, walked) == []
