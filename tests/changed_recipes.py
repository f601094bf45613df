"""A recipe with diffs of the documentation applied to it, as a module."""

import re
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIFF, FLAGS = r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL


def changed(text, diff):
    """The text after a diff without line numbers, each part of which stands in it exactly once."""
    for old, new in parts(diff):
        assert text.count(old) == 1, f"not once in the recipe:\n{old}"
        text = text.replace(old, new)
    return text


def parts(diff):
    """Pairs of the lines before and after; a line that goes, after one that came, begins a part.

    So does a line `@@`.
    """
    lines = re.findall(r"^(?:[-+ ].*|@@)\n", diff, re.MULTILINE)
    assert "".join(lines) == diff, "only lines with -, + or a space, and @@"
    found = [[]]
    for line in lines:
        if line == "@@\n" or (line[0] == "-" and found[-1] and found[-1][-1][0] == "+"):
            found.append([])
        if line != "@@\n":
            found[-1].append(line)
    sides = " -", " +"
    return [["".join(x[1:] for x in part if x[0] in side) for side in sides] for part in found]


def page_diffs(page):
    """The diffs of a page."""
    return re.findall(DIFF, (ROOT / "docs" / page).read_text(encoding="utf-8"), FLAGS)


def diffs(page, heading):
    """The diffs of a section of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return re.findall(DIFF, section, FLAGS)


def gym_recipe(diffs, replace=()):
    """The gymnasium recipe with diffs applied, as a module."""
    return recipe("dreamerv3_gym", diffs, replace)


def recipe(name, diffs, replace=()):
    """Any recipe with diffs applied, as a module."""
    text = (ROOT / "recipes" / f"{name}.py").read_text(encoding="utf-8")
    for diff in diffs:
        text = changed(text, diff)
    for old, new in replace:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    module = types.ModuleType("changed_recipe")
    module.__file__ = "changed_recipe.py"
    sys.modules[module.__name__] = module  # a dataclass looks itself up there
    try:
        exec(compile(text, module.__file__, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module
