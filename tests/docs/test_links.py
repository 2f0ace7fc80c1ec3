"""Links between the documents lead somewhere, and every page is reachable from README.md."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, name_of, without_blocks
from tests.helpers import REPOSITORY

LINK = re.compile(r"\]\(([^)\s]+)\)")
CHECKED = [*PAGES, REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / ".github").glob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", without_blocks(page))
    return [link for link in LINK.findall(text) if not link.startswith(("http://", "https://"))]


@pytest.mark.parametrize("page", CHECKED, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}; there is {sorted(anchors(target))}"


def test_every_page_is_reachable_from_the_readme():
    reached, ahead = set(), [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        ahead += [target for target in targets if target.suffix == ".md" and target not in reached and target.exists()]
    assert set(PAGES) <= reached


def test_pages_that_the_code_names_exist():
    named = {
        name
        for pattern in ("*/**/*.py", "configs/**/*.yml", "*.py")
        for path in REPOSITORY.glob(pattern)
        if not path.relative_to(REPOSITORY).as_posix().startswith((".", "tests/"))
        for name in re.findall(r"(?<![\w/])docs/[\w-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert "docs/data.md" in named
    assert [name for name in sorted(named) if not (REPOSITORY / name).is_file()] == []


def test_anchors_are_those_of_github():
    assert anchors(REPOSITORY / "docs" / "data.md") >= {"data", "several-data-sets", "veri-776"}
