"""The documentation keeps its word: examples run, figures link to headings, tables are the code."""

import ast
import doctest
import fnmatch
import importlib.util
import itertools
import re
import runpy
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest

import parity
from golden_folder import GOLDEN

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Not the tables of docs/results, which stand on these pages.
PAGES = sorted(page for page in DOCS.rglob("*.md") if DOCS / "results" not in page.parents)
RECIPES = [
    path
    for path in sorted((ROOT / "recipes").glob("*.py"))
    if (DOCS / "recipes" / f"{path.stem}.md").exists()
]
FENCE = re.compile(r"^```(pycon|python)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path):
    return str(path.relative_to(ROOT))


def examples():
    """Each Python block of README and pages, with its file and line."""
    for page in [ROOT / "README.md", *PAGES]:
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start(1)) + 1
            yield pytest.param(*found.groups(), named(page), line, id=f"{named(page)}:{line}")


def lacking(code):
    """Packages that a block imports, an extra installs and this environment lacks."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import)]
    names = {alias.name.split(".")[0] for node in nodes for alias in node.names}
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return sorted(x for x in names if not importlib.util.find_spec(x) and f'"{x}' in wanted)


@pytest.mark.parametrize(("kind", "code", "page", "line"), list(examples()))
def test_a_block_runs_as_it_is_copied(kind, code, page, line, monkeypatch, tmp_path):
    """Alone, from an empty session, in a clone that has `recipes` on the path."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "conformance")  # toy_rssm.py, shown on its page
    (tmp_path / "docs").symlink_to(DOCS)
    monkeypatch.chdir(tmp_path)  # where what a block writes does no harm
    session = {"__name__": "__main__"}
    if kind == "python":
        for name in lacking(code):  # all other names of the block must be there
            monkeypatch.setitem(sys.modules, name, mock.MagicMock())
        exec(compile(code, f"{page}:{line}", "exec"), session)
        return
    # A copy leaves prompts and output out (docs/style.css), but a traceback has parts of code.
    assert "Traceback" not in code, "catch the error and print it"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(code, session, page, page, line)
    report = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not report, "".join(report)


def test_the_check_of_an_environment_of_ones_own_prints_what_is_shown(capsys):
    text = (DOCS / "environment.md").read_text(encoding="utf-8")
    (_, code), *_ = FENCE.findall(text)
    exec(compile(code, "corridor.py", "exec"), {"__name__": "__main__"})
    shown = text.partition("```bash\npython corridor.py\n```")[2].split("```")
    assert f"text\n{capsys.readouterr().out}" == shown[1]


def test_prompts_and_output_are_not_copied():
    """The copy button takes `innerText`, which leaves out what is not displayed."""
    style = (DOCS / "style.css").read_text(encoding="utf-8")
    for kind in ("gp", "go"):
        assert re.search(rf"\[data-md-copying\] \.{kind}\b[^}}]*{{[^}}]*display: none", style)


LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def test_examples_of_docstrings_catch_their_errors():
    """Parts of a traceback would be copied."""
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")}
    assert [path for path, text in sources.items() if "Traceback (most recent" in text] == []


def test_every_page_is_in_the_menu_or_linked_from_a_page_in_it():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    beside = re.findall(r"^  /(\S+\.md)$", config.partition("not_in_nav: |\n")[2], re.MULTILINE)
    inside = [page for page in PAGES if f": {page.relative_to(DOCS)}\n" in config]
    assert {*inside, *(DOCS / page for page in beside)} == {*PAGES}
    texts = {page: page.read_text(encoding="utf-8") for page in inside}
    linked = {(p.parent / to).resolve() for p, text in texts.items() for to in LINK.findall(text)}
    assert [page for page in beside if DOCS / page not in linked] == []


def test_the_readme_links_what_github_can_show():
    """No page with an include, which stays as it is there, or with an SVG, which is left out."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "--8<--" not in text
    assert "<svg" not in text
    for target in LINK.findall(text):
        path = ROOT / target
        assert path.exists(), target
        if path.suffix == ".md":
            shown = path.read_text(encoding="utf-8")
            assert not re.search(r"^ *--8<--|<svg", shown, re.MULTILINE), target


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_table_of_extras_is_the_project():
    extras = project()["optional-dependencies"]
    rows = first_table((DOCS / "install.md").read_text(encoding="utf-8"))[1:]
    assert [row[0].strip("`") for row in sorted(rows)] == sorted(extras, key=lambda x: f"`{x}`")
    for extra, _, includes in rows:
        own = re.search(r"worldblocks\[([\w,]+)\]", " ".join(extras[extra.strip("`")]))
        assert re.findall(r"`(\w+)`", includes) == (own[1].split(",") if own else []), extra


SHOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]


@pytest.mark.parametrize("page", SHOWN, ids=named)
def test_every_install_line_works_in_a_clone(page):
    """No index has the package; each line names extras that there are."""
    extras, text = project()["optional-dependencies"], page.read_text(encoding="utf-8")
    for line in re.findall(r"pip install [^`\n#]*", text):
        assert "worldblocks" not in line, line
        for named_extras in re.findall(r'-e "\.\[([^]]*)\]"', line):
            assert set(named_extras.split(",")) <= {*extras}, line
            if {*named_extras.split(",")} & {"dmc", "bench", "dev"}:
                assert "Python 3.11 or 3.12" in text, "labmaze has no wheel for 3.13"


@pytest.mark.parametrize("page", sorted((DOCS / "recipes").glob("*.md")), ids=named)
def test_the_page_of_a_recipe_installs_what_it_runs(page):
    text = page.read_text(encoding="utf-8")
    first = re.search(r"^(pip install -c constraints.txt|python recipes/)", text, re.MULTILINE)
    assert first[1].startswith("pip install")


@pytest.mark.parametrize("page", SHOWN, ids=named)
def test_every_command_names_a_file_and_options_that_there_are(page):
    """Commands of recipes and tools as typed: the file, the preset and each option."""
    text = re.sub(r" \\\n +", " ", page.read_text(encoding="utf-8"))
    for name, rest in re.findall(r"python (recipes/\w+\.py)([^`\n#|;&]*)", text):
        path = ROOT / name
        if path.stem == "mine":  # a copy of the recipe for gymnasium
            path = path.with_stem("dreamerv3_gym")
        assert path.exists(), name
        source = path.read_text(encoding="utf-8")
        preset = rest.split()[:1]
        if "\nPRESETS = {" in source and preset and re.fullmatch(r"[a-z]\w*", preset[0]):
            assert f'\n    "{preset[0]}": Config(' in source, f"{name}{rest}"
        for option in re.findall(r"(?<= )--(?:no-)?([\w-]+)", rest):
            field = option.replace("-", "_")
            assert re.search(rf"^    {field}: ", source, re.MULTILINE) or field == "help", (
                f"{name}{rest}"
            )


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


def first_table(text):
    """The cells of each row of the first table, without the line under its header."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), text.splitlines())
    header, _, *rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]


@pytest.mark.parametrize("recipe", RECIPES, ids=named)
def test_the_preset_table_is_the_recipe(recipe):
    presets = runpy.run_path(str(recipe), run_name="recipe")["PRESETS"]
    text = (DOCS / "recipes" / f"{recipe.stem}.md").read_text(encoding="utf-8")
    assert f'--8<-- "recipes/{recipe.name}"' in text
    header, *rows = first_table(text.partition("## Presets")[2])
    names = [name.strip("`") for name in header[1:]]
    assert sorted(names) == sorted(presets)
    for row in rows:
        field, *values = (cell.strip("`") for cell in row)
        for name, value in zip(names, values, strict=True):
            own = getattr(presets[name], field)
            shown = value if isinstance(own, str) else ast.literal_eval(value.replace(" ", ""))
            assert shown == own, f"{field} of {name}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_snippets_are_in_the_form_that_mkdocs_reads(page):
    """A formatter that takes one for Python would leave a page without its source."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if "--8" in line:
            found = re.fullmatch(r' *--8<-- "([\w./]+)(?::(\w+))?"', line)
            assert found, line
            text = (ROOT / found[1]).read_text(encoding="utf-8")
            assert found[2] is None or f"[start:{found[2]}]" in text, line


def parity_table():
    """Case, error of values, error of gradients of each row of the page."""
    lines = (DOCS / "parity.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [(row[1], row[4], row[5]) for row in cells if len(row) == 8 and row[7] == "ok"]


def test_the_parity_page_has_a_row_for_each_comparison():
    made = parity.checks(GOLDEN, parity.RECIPE)
    shown = [case for case, _, _ in parity_table()]
    assert shown == [check.case for check in made], "python tests/parity --markdown"


def stated(text):
    """The bound that a page states for values or gradients."""
    return 0.0 if text == "exact" else float(text.removeprefix("≤ "))


@pytest.mark.parametrize("page", sorted((DOCS / "blocks").glob("*.md")), ids=named)
def test_parity_figures_of_a_page_are_those_of_the_table(page):
    """Each is the worst of the rows it names, rounded up to one digit."""
    line = r"\*\*Parity\*\*: (.*): \[(.*)\]\(\.\./parity\.md\)"
    for cases, figures in re.findall(line, page.read_text(encoding="utf-8")):
        patterns = re.findall(r"`([^`]+)`", cases)
        rows = [row for row in parity_table() if any(match(row[0], p) for p in patterns)]
        assert all(any(match(row[0], p) for row in rows) for p in patterns), cases
        shown = dict(figure.split(" ", 1) for figure in figures.split(", "))
        for place, name in ((1, "values"), (2, "gradients")):
            errors = [float(row[place]) for row in rows if row[place] != "-"]
            assert (name in shown) == bool(errors), f"{cases}: {name}"
            if errors:
                assert max(errors) <= stated(shown[name]) <= 2.01 * max(errors), f"{cases}: {name}"


def match(case, pattern):
    return any(fnmatch.fnmatchcase(case, p) for p in (pattern, f"{pattern} *"))
