"""The pictures of the docs: each is in both schemes, made by `run.py screenshots --docs`, shown, and described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the environments of the matrix have no Sphinx")

from PIL import Image

from project.environment import BASE_DIR
from tests.documents import pages
from tools.docs.extension import PICTURE
from tools.screenshots.pictures import IMAGES, IN_DOCS, SCHEMES, SIZES, of_docs

MOST_BYTES = 150_000
FILES = [of_docs(name, scheme) for name in IN_DOCS for scheme in SCHEMES]
SHOWN = [(page, found) for page in pages() for found in PICTURE.finditer((BASE_DIR / page).read_text())]


@pytest.mark.parametrize("page", pages())
def test_each_picture_of_a_page_is_one_in_two_schemes(page: str):
    text = (BASE_DIR / page).read_text()
    assert len(re.findall(r"^<picture|^ *<img|!\[", text, re.MULTILINE)) == 2 * len(PICTURE.findall(text))


@pytest.mark.parametrize(
    ("page", "found"), SHOWN, ids=lambda value: value if isinstance(value, str) else value["light"]
)
def test_it_is_made_by_the_command_and_described(page: str, found: re.Match[str]):
    light, dark = (((BASE_DIR / page).parent / found[scheme]).resolve() for scheme in SCHEMES)
    assert (light, dark) in [tuple(of_docs(name, scheme) for scheme in SCHEMES) for name in IN_DOCS]
    assert len(found["alt"]) > 60


def test_each_picture_that_is_made_is_shown_and_no_other_file_is_left():
    assert sorted(IMAGES.iterdir()) == sorted(FILES)
    shown = {(BASE_DIR / page).parent.joinpath(found["light"]).resolve() for page, found in SHOWN}
    assert shown == {of_docs(name, "light") for name in IN_DOCS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_file_is_small_and_as_wide_as_the_window(path: Path):
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as picture:
        assert picture.width == SIZES["wide"][0]
