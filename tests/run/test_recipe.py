"""A run folder never decides which code is executed."""

import json
import sys

import pytest

from worldblocks.run import load_recipe, recipe_of

CODE = "loaded = True\n\ndef act():\n    pass\n"


@pytest.fixture
def recipes(tmp_path):
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.py").write_text(CODE)
    return folder


def run_of(tmp_path, recipe):
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"recipe": recipe}))
    return tmp_path / "run"


def test_the_name_of_a_run_is_looked_up_beside_the_tool(tmp_path, recipes):
    recipe = recipe_of(
        run_of(tmp_path, "mine"), None, tool=str(recipes / "tool.py"), needed=["act"]
    )
    assert recipe.loaded


@pytest.mark.parametrize(
    "name", ["../payload", "/tmp/payload", "payload", "payload.py", "Mine", "", ".", 3, None, ["a"]]
)
def test_another_name_runs_nothing(tmp_path, recipes, name):
    payload = "raise SystemExit('run')"
    for path in (tmp_path / "payload.py", tmp_path / "run" / "payload.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(payload)
    with pytest.raises(FileNotFoundError, match=r"which is not .*; give its file with --recipe"):
        recipe_of(run_of(tmp_path, name), None, tool=str(recipes / "tool.py"))


def test_what_a_person_types_may_be_anywhere(tmp_path, recipes):
    (tmp_path / "agent.py").write_text(CODE)
    recipe = recipe_of(
        run_of(tmp_path, "../gone"), tmp_path / "agent.py", tool=str(recipes / "tool.py")
    )
    assert recipe.loaded


def test_a_recipe_without_what_is_needed(tmp_path, recipes):
    message = r"mine\.py has no load; tool\.py needs a recipe with act, load"
    with pytest.raises(ValueError, match=message):
        recipe_of(
            run_of(tmp_path, "mine"), None, tool=str(recipes / "tool.py"), needed=["act", "load"]
        )


def test_a_recipe_that_is_imported_already_is_not_loaded_again(recipes, monkeypatch):
    monkeypatch.syspath_prepend(recipes)
    import mine

    assert load_recipe(recipes / "mine.py") is mine
    (recipes.parent / "mine.py").write_text(CODE)
    assert load_recipe(recipes.parent / "mine.py") is not mine
    monkeypatch.delitem(sys.modules, "mine")


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--recipe takes the path of a \.py file"):
        load_recipe(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("name", "what"), [("mine", "not_installed_here"), ("my_atari", r'-e "\.\[atari\]"')]
)
def test_a_recipe_without_its_extra(tmp_path, name, what):
    path = tmp_path / f"{name}.py"
    path.write_text("import not_installed_here\n")
    message = rf"the recipe {name}\.py needs not_installed_here: pip install {what}"
    with pytest.raises(ImportError, match=message):
        load_recipe(path)
