"""Recipes of one algorithm are one agent: the allowed differences are listed here."""

import ast
import dataclasses
import difflib
import functools
import importlib
import itertools
import re
from pathlib import Path

import pytest

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("dreamerv3_*.py"))
PAIRS = list(itertools.combinations(RECIPES, 2))

# The functions that may differ below `PRESETS`, and the settings whose default or comment may. An
# addition needs a reason, given on the recipe's page.
FUNCTIONS = {"environments"}
FIELDS = {"steps", "logdir", "envs", "pixels", "repeat", "image"}
FIELDS |= {"train_ratio", "log_every", "report_steps"}
LINES = 15


def named(pairs):
    return pytest.mark.parametrize("pair", pairs, ids=lambda pair: "-".join(p.stem for p in pair))


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def source(path, node):
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[node.lineno - 1 : node.end_lineno])


def definitions(path):
    """Functions and classes by name, as they are written."""
    kinds = ast.FunctionDef | ast.ClassDef
    return {node.name: source(path, node) for node in tree(path).body if isinstance(node, kinds)}


def settings(path):
    """The fields of `Config`: default and comment of each."""
    [config] = [node for node in tree(path).body if getattr(node, "name", "") == "Config"]
    fields = [node for node in config.body if isinstance(node, ast.AnnAssign)]
    lines = path.read_text(encoding="utf-8").splitlines()
    return {node.target.id: lines[node.lineno - 1] for node in fields}


def below_presets(path):
    """The lines after `PRESETS`."""
    [presets] = [
        node
        for node in tree(path).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "PRESETS"
    ]
    return path.read_text(encoding="utf-8").splitlines()[presets.end_lineno :]


def test_all_recipes_are_there():
    assert [path.stem for path in RECIPES] == ["dreamerv3_atari", "dreamerv3_dmc", "dreamerv3_gym"]


@named(PAIRS)
def test_functions_of_one_name_are_equal(pair):
    ours, theirs = map(definitions, pair)
    assert list(ours) == list(theirs)
    differ = {name for name in ours if ours[name] != theirs[name]}
    assert differ <= FUNCTIONS | {"Config"}


@named(PAIRS)
def test_settings_of_one_name_are_equal(pair):
    ours, theirs = map(settings, pair)
    shared = [name for name in ours if name in theirs]
    assert shared == [name for name in theirs if name in ours], "in the same order"
    assert {name for name in shared if ours[name] != theirs[name]} <= FIELDS


@named(PAIRS)
def test_the_smoke_preset_is_everywhere(pair):
    for path in pair:
        assert re.search(r'^    "smoke": Config\($', path.read_text(encoding="utf-8"), re.MULTILINE)


WRONG = {
    "prefill": (9999, "starts after 9999 windows, but replay holds only .*: use a smaller --pre"),
}
for rows in (1, 9):
    message = f"--imag-last takes 2 to 8 rows of .* 0 for all of them, got {rows}"
    WRONG[f"imag_last {rows}"] = (rows, message)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_invalid_settings(path, name):
    recipe, (value, message) = importlib.import_module(path.stem), WRONG[name]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipe.PRESETS["smoke"], **{name.partition(" ")[0]: value})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_imagination_from_two_rows_to_all(path):
    recipe = importlib.import_module(path.stem)
    for rows in (0, 2, 8):
        dataclasses.replace(recipe.PRESETS["smoke"], imag_last=rows)


@named(PAIRS)
def test_few_lines_differ_below_the_presets(pair):
    ours, theirs = map(below_presets, pair)
    changes = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    differ = [max(b - a, d - c) for kind, a, b, c, d in changes if kind != "equal"]
    assert sum(differ) <= LINES


# Several tasks: the functions that differ from those of one task, with the reason, and those that
# differ between the two recipes.
SEVERAL = [RECIPES[0].with_name(f"multitask_{name}.py") for name in ("dmc", "atari")]
OF_ONE = {
    "Agent": "heads, and the modules they share",
    "world_model_loss": "no reward",
    "actor_critic_loss": "REINFORCE only; the rows that the critic learns from",
    "replay_critic_loss": "the rows that the critic learns from",
    "update": "a head for each task",
    "learn": "windows of each task",
    "environments": "of a task",
    "build": "a task suite",
    "load": "the agent of one task",
    "act": "the task's own action without padding, and no features",
    "main": "several tasks",
    "Config": "",
}
BETWEEN = {"task_suite", "environments", "main", "Config"}


def test_recipes_of_several_tasks_are_one_agent():
    ours, theirs = map(definitions, SEVERAL)
    assert list(ours) == list(theirs)
    assert {name for name in ours if ours[name] != theirs[name]} <= BETWEEN
    changes = difflib.SequenceMatcher(
        None, *map(below_presets, SEVERAL), autojunk=False
    ).get_opcodes()
    assert sum(max(b - a, d - c) for kind, a, b, c, d in changes if kind != "equal") <= LINES


def test_their_differences_from_one_task_are_listed():
    ours, theirs = definitions(SEVERAL[0]), definitions(RECIPES[1])
    differ = {name for name in ours if name in theirs and ours[name] != theirs[name]}
    assert differ == set(OF_ONE)


# Candidate rewards: the functions that differ from those of several tasks, with the reason.
GLAM = RECIPES[0].with_name("glam.py")
OF_SEVERAL = {
    "Agent": "a head for each candidate, by number; predicted features",
    "actor_critic_loss": "imagination only: most rows were played for another candidate",
    "update": "a feature loss; imagined rewards may be computed from features",
    "learn": "one replay, relabelled",
    "environments": "one environment",
    "build": "the same",
    "load": "the most probable candidate",
    "act": "a head for each environment",
    "main": "candidates are proposed, drawn and updated by outcomes",
    "Config": "",
}


def test_differences_of_glam_from_several_tasks_are_listed():
    ours, theirs = definitions(GLAM), definitions(SEVERAL[0])
    assert {name for name in ours if name in theirs and ours[name] != theirs[name]} == {*OF_SEVERAL}
    assert ours["world_model_loss"] == theirs["world_model_loss"]


def test_the_world_model_of_recorded_data_is_the_same():
    ours, theirs = definitions(RECIPES[0].with_name("world_model.py")), definitions(RECIPES[2])
    assert ours["world_model_loss"] == theirs["world_model_loss"]
    differ = {name for name in ours if name in theirs and ours[name] != theirs[name]}
    assert differ == {"Agent", "Config", "update", "build", "load", "main"}, "no actor, no critic"
