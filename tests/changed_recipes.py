"""A recipe with diffs of the documentation applied to it, as a module."""

import re
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]


def changed(text, diff):
    """The text after a diff without line numbers, whose old lines stand in it exactly once."""
    old, new = (
        "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in f" {sign}")
        for sign in "-+"
    )
    assert text.count(old) == 1, old
    return text.replace(old, new)


def diffs(page, heading):
    """The diffs of a section of a page."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```diff\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


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
