"""The README and the pages of the documentation: examples as a reader would type them, links."""

import doctest
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_links_to_exists(page):
    links = LINK.findall(FENCED.sub("", page.read_text()))
    assert not [link for link in links if not (page.parent / link).exists()]
    if page == README:
        assert any(link.endswith(".png") for link in links)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text()], ids=name_of
)
def test_examples_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def prose(text):
    """The text of a page without code, tables and headings."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    lines = [line for line in text.splitlines() if not re.match(r"    |\||#", line)]
    return "\n".join(lines)


def sentences(text):
    """Its sentences; a list item, a heading and a paragraph end one."""
    blocks = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", "\n" + text)
    return [s for block in blocks for s in re.split(r"(?<=[.!?])\s+", " ".join(block.split())) if s]


def test_readme_is_short():
    text = prose(README.read_text())
    assert len(text.split()) <= 900


@pytest.mark.parametrize("page", [p for p in PAGES if "studies" not in p.parts], ids=name_of)
def test_sentences_are_short(page):
    long = [s for s in sentences(prose(page.read_text())) if len(s.split()) > 25]
    assert not long
