"""The pages about deploying: their commands that can run here do, and the table is what the calculator says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys

import pytest

from reportqueue.sizing import Load, Peak, figures
from tests.deploy.files import ROOT
from tests.documents import Block, blocks

PAGE = "docs/deploying.md"
LOADS = {
    "10,000 a day": Load(10_000, 5),
    "100,000 a day": Load(100_000, 5),
    "1,000,000 a day": Load(1_000_000, 5),
    "10,000 at nine o'clock": Load(10_000, 5, Peak(10_000, 9, 0)),
    "8,640,000 a day, by schedules": Load(8_640_000, 5, by_http=False),
}
PAGES = (PAGE, "docs/kubernetes.md", "docs/upgrading.md")
RUN = [block for page in PAGES for block in blocks(page, "sh") if "test_page.py" in block.run_by]


def test_there_are_some():
    assert len(RUN) == 2


@pytest.mark.parametrize("block", RUN, ids=str)
def test_the_commands_that_can_run_here_do(block: Block):
    for line in block.text.splitlines():
        program, *arguments = shlex.split(line)
        if program == "kubectl" and shutil.which(program) is None:
            pytest.skip("kubectl is not installed")
        found = sys.executable if program == "python" else program
        done = subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_each_other_block_says_why_it_is_not_run():
    assert all(block.not_run for page in PAGES for block in blocks(page) if block not in RUN)


def test_its_table_is_what_the_calculator_says():
    rows = re.findall(r"^\| (\d[^|]+) \|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)\|", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert [row[0] for row in rows] == list(LOADS)
    for name, *cells in rows:
        said = {figure.name: figure for figure in figures(LOADS[name])}
        web, connections, deployments, slots = (cell.strip() for cell in cells)
        assert web == f"{said['web processes'].number}"
        pool = "Put PgBouncer" in said["connections to the queue's database, at most"].basis
        number = said["connections to the queue's database, at most"].number
        assert connections == f"{number}{', PgBouncer' if pool else ''}"
        batches = "`batch_job`" in said["Dagster runs a second, at the peak, if each report has one"].basis
        number = said["Dagster deployments, each with one daemon"].number
        assert deployments == f"{number}{', in batches' if batches else ''}"
        both = [said[f"slots: runs that work at once, {when}"].number for when in ("on average", "at the peak")]
        assert slots == ", ".join(f"{one:,}" for one in both)
