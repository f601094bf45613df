"""The documentation keeps its word: examples run, links of figures lead somewhere, no markers are left."""

import doctest
import re
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
