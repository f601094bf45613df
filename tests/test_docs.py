"""The documentation keeps its word: examples run, figures link to headings, tables are the code."""

import ast
import doctest
import itertools
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
EXAMPLE = re.compile(r"^```(?:pycon|python)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path):
    return str(path.relative_to(ROOT))


def examples(page):
    """The interactive examples of a page, as one session from top to bottom."""
    text = page.read_text(encoding="utf-8")
    blocks = [m for m in EXAMPLE.finditer(text) if m[1].lstrip().startswith(">>>")]
    return [(text.count("\n", 0, m.start(1)), m[1]) for m in blocks]


@pytest.mark.parametrize("page", [p for p in PAGES if examples(p)], ids=named)
def test_examples_run(page):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    session, parser = {"__name__": "__main__"}, doctest.DocTestParser()
    report = []
    for line, block in examples(page):
        test = parser.get_doctest(block, session, named(page), str(page), line)
        runner.run(test, out=report.append, clear_globs=False)
        session = test.globs
    assert runner.failures == 0, "".join(report)


def test_every_page_is_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page for page in PAGES if f": {page.relative_to(DOCS)}\n" not in config]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_of_figures_lead_to_a_heading(page):
    """mkdocs checks Markdown links; those inside an SVG are relative to the built page."""
    for target in re.findall(r'<a href="([^"]+)"', page.read_text(encoding="utf-8")):
        assert page.name == "index.md", "a figure with links stands on the home page"
        path, _, anchor = target.partition("#")
        headings = (DOCS / f"{path.rstrip('/')}.md").read_text(encoding="utf-8")
        titles = re.findall(r"^#+ (.*)$", headings, re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, f"{target}: {path} has {sorted(anchors)}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_nothing_is_fetched_while_reading(page):
    """No picture, script or style from elsewhere."""
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'(?:src="|!\[[^]]*\]\()https?:[^" )]*', text) == []


def test_the_preset_table_is_the_recipe():
    recipe = runpy.run_path(str(ROOT / "recipes" / "dreamerv3_atari.py"), run_name="recipe")
    text = (DOCS / "recipes" / "dreamerv3_atari.md").read_text(encoding="utf-8")
    header, *rows = re.findall(r"^\|.*\|$", text.partition("## Presets")[2], re.MULTILINE)
    names = re.findall(r"`(\w+)`", header)
    assert sorted(names) == sorted(recipe["PRESETS"])
    rows = list(itertools.takewhile(lambda row: "--units" not in row, rows[1:]))
    for row in rows:
        field, *values = (cell.strip().strip("`") for cell in row.strip("|").split("|"))
        for name, value in zip(names, values, strict=True):
            own = getattr(recipe["PRESETS"][name], field)
            shown = value if isinstance(own, str) else ast.literal_eval(value.replace(" ", ""))
            assert shown == own, f"{field} of {name}"
