"""The blocks of the pages: each is executed by a test, or the page says why not."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import documents
from tests.documents import ROOT, RUN, blocks, pages
from tools.runner import arguments

PICTURES = ("", "mermaid")
"""What is shown and not executed: trees of files, drawings."""
PAGE = """# Title

Save this as
`a.py`:

```python
# no heading
```

## Part

1. A list:

   <!-- not run: it needs two machines -->
   ```sh
   false
   ```
"""


def commands() -> Iterator[list[str]]:
    """The words of each command for the checkout."""
    for block in (*blocks("README.md", "sh"), *blocks("CONTRIBUTING.md", "sh")):
        for line in block.text.replace("\\\n", " ").splitlines():
            if "run.py" in line or re.search(r"\.venv/bin/(?!activate)", line):
                yield shlex.split(line, comments=True)


def test_a_block_has_its_place_and_its_excuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "page.md").write_text(PAGE)
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    first, second = blocks("page.md")
    assert (first.line, first.section, first.before) == (6, "Title", "Save this as `a.py`:")
    assert (first.language, first.text, first.not_run) == ("python", "# no heading\n", "")
    assert (second.line, second.section, second.before) == (15, "Part", "1. A list:")
    assert (second.language, second.text, second.not_run) == ("sh", "false\n", "it needs two machines")


@pytest.mark.parametrize("page", pages())
def test_each_block_is_executed_or_a_picture(page: str):
    for block in blocks(page):
        assert block.language in (*RUN, *PICTURES), f"{block} would not be executed"


@pytest.mark.parametrize("page", pages())
def test_each_excuse_belongs_to_a_block_and_each_test_in_it_exists(page: str):
    excused = [block for block in blocks(page) if block.is_excused]
    assert len(excused) == len(re.findall(r"^ *<!-- (?:not )?run", (ROOT / page).read_text(), re.MULTILINE))
    for block in excused:
        if block.run_by:
            assert page in (ROOT / block.run_by).read_text(), f"{block.run_by} does not read {page}"


def test_the_commands_for_the_checkout_have_options_and_tests_that_exist(monkeypatch: pytest.MonkeyPatch):
    found = list(commands())
    ours = [words[words.index("run.py") + 1 :] for words in found if "run.py" in words]
    assert {words[0] for words in ours} == {"demo", "test", "lint", "matrix", "docs", "release"}
    for words in ours:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        arguments.parse()
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), words
    programs = {word for words in found for word in words if word.startswith(".venv/bin/")}
    assert {Path(program).name for program in programs} == {"ruff", "mypy", "lint-imports", "python", "uv"}
    if Path(sys.prefix) == ROOT / ".venv":  # those of the matrix have the tools of the tests alone
        assert all((Path(sys.executable).parent / Path(program).name).exists() for program in programs)
