"""The rules of the house, read from the source: imports, names, lengths, docs."""

import ast
import functools
import importlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "worldblocks"
DOCS = ROOT / "docs"

# Imports go down, and inside a floor to the left. Modules of floor 4 lean on floors 0 and 1 only.
FLOORS = [
    ["_eager", "_install", "recipes", "_wrong_call", "_wrong_axes", "typing", "spaces"],
    ["transforms", "returns", "distributions", "losses"],
    ["layers", "ema", "normalize", "balance"],
    ["encoders", "decoders", "heads", "rssm"],
    ["replay", "optim", "envs", "run"],
    ["interop", "evaluate", "diagnose", "tasks", "language", "testing"],
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
ORDER = {name: place for place, name in enumerate(itertools.chain(*FLOORS))}

# What whoever installs the package has; anything else is imported where it is used.
CORE = {"torch", "numpy", "einops", "jaxtyping", "beartype"}
HEAVY = ["gymnasium", "ale_py", "dm_control", "transformers", "tensorboard", "tyro", "hypothesis"]
HEAVY += ["scipy", "matplotlib", "mujoco", "stable_baselines3", "wandb", "peft", "minigrid"]

SOURCES = sorted(SRC.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
MODULES = sorted({p.relative_to(SRC).parts[0].removesuffix(".py") for p in SOURCES} - {"__init__"})
PUBLIC = [name for name in MODULES if not name.startswith("_")]
BLOCKS = [name for name in PUBLIC if name not in ("typing", "spaces")]


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda p: str(p.relative_to(ROOT)))


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path):
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(path, nodes):
    """Absolute dotted names that the import statements among `nodes` bring in."""
    package = ["worldblocks", *path.relative_to(SRC).parts[:-1]]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def typing_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def on_import(node):
    """What runs when a module is imported: nothing inside functions, nothing for checkers only."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda) and not typing_only(child):
            yield child
            yield from on_import(child)


def public_names(module):
    """The names of a module's one public path: `__all__`, or what it defines without underscore."""
    folder = SRC / module
    path = folder / "__init__.py" if folder.is_dir() else SRC / f"{module}.py"
    names = set()
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return sorted(ast.literal_eval(node.value))
        elif isinstance(node, ast.ImportFrom) and path.name == "__init__.py":
            ours = node.level or node.module.startswith("worldblocks")
            names |= {alias.asname or alias.name for alias in node.names} if ours else set()
    return sorted(name for name in names if not name.startswith("_"))


def definitions(module):
    """Public functions and classes of a module, wherever in its package they stand."""
    wanted = public_names(module)
    for path in [p for p in SOURCES if module_of(p) == module]:
        for node in tree(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted:
                yield path, node


def test_every_module_has_its_floor():
    assert sorted(set(MODULES) - set(FLOOR)) == [], "give the new module a floor in FLOORS"


@named([p for p in SOURCES if p.parent != SRC or p.name != "__init__.py"])
def test_imports_only_go_down(path):
    here = module_of(path)
    for name in imported(path, ast.walk(tree(path))):
        if not name.startswith("worldblocks."):
            assert name.split(".")[0] not in ("recipes", "tests")
            continue
        there = name.split(".")[1]
        if there == here or there not in FLOOR:
            continue
        below = FLOOR[there] <= 1 if FLOOR[here] == 4 else ORDER[there] < ORDER[here]
        assert below, f"{here} (floor {FLOOR[here]}) imports {there} (floor {FLOOR[there]})"


@named(SOURCES)
def test_only_core_dependencies_are_imported_at_import(path):
    tops = {name.split(".")[0] for name in imported(path, on_import(tree(path)))}
    extra = tops - CORE - set(sys.stdlib_module_names) - {"worldblocks"}
    assert extra == set(), f"import {extra} inside the function that needs it"


@named(SOURCES + RECIPES)
def test_annotations_are_not_postponed(path):
    """`from __future__ import annotations` makes strings of annotations; shape checks break."""
    assert not any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree(path).body
    )


@named(SOURCES + RECIPES)
def test_names_and_markers(path):
    assert path.stem not in ("utils", "util", "common", "helpers", "misc")
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8"))


@named(SOURCES)
def test_a_file_is_one_topic(path):
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= 270, f"{length} lines: make it a package of small files"


def bodies(path):
    """Lines of each function's body, docstring not counted."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_functions_are_short():
    lengths = [(lines, name, path.name) for path in SOURCES for name, lines in bodies(path)]
    assert [entry for entry in lengths if entry[0] > 60] == []
    long = sorted(entry for entry in lengths if entry[0] >= 30)
    assert len(long) <= 0.1 * len(lengths), long


@pytest.mark.parametrize("module", MODULES)
def test_a_public_signature_has_no_bare_tensor(module):
    for path, node in definitions(module):
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in functions:
            if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
                continue
            given = function.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            for hint in [*[argument.annotation for argument in arguments], function.returns]:
                text = ast.unparse(hint) if hint else ""
                bare = re.search(r"(^|\| )(torch\.)?Tensor($| \|)", text)
                assert not bare, f"{path.name}: {function.name} has {text}: say its shape"


@named(RECIPES)
def test_a_recipe_is_one_readable_file(path):
    """At most 300 lines without docstring, `Config` and `PRESETS`; nothing of another recipe."""
    body = tree(path).body
    counted = len(path.read_text(encoding="utf-8").splitlines())
    for node in body:
        docstring = node is body[0] and ast.get_docstring(tree(path))
        settings = isinstance(node, ast.ClassDef) and node.name == "Config"
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if docstring or settings or getattr(target, "id", None) == "PRESETS":
            counted -= node.end_lineno - node.lineno + 1
    assert counted <= 300, f"{counted} lines"
    others = {p.stem for p in RECIPES}
    for node in ast.walk(tree(path)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert others.isdisjoint(names), f"{path.name} imports another recipe"


# A recipe's own settings may hold arguments of an environment, as JSON.
SPREAD = {"arguments"}


@named(RECIPES)
def test_a_recipe_writes_keywords_out(path):
    """So that pyright sees a misspelt one."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and any(
            "wb." in ast.unparse(x) for x in [node.func, *node.args[:1]]
        ):
            spread = {ast.unparse(k.value) for k in node.keywords if k.arg is None}
            assert spread <= SPREAD, f"{path.name}:{node.lineno}: **{', **'.join(spread - SPREAD)}"


def test_a_misspelt_keyword_in_a_recipe_fails_pyright(tmp_path):
    source = (ROOT / "recipes" / "dreamerv3_gym.py").read_text(encoding="utf-8")
    (tmp_path / "recipe.py").write_text(source.replace("blocks=cfg.blocks", "block=cfg.blocks"))
    done = subprocess.run(["pyright", tmp_path / "recipe.py"], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'No parameter named "block"' in done.stdout


def fresh(code):
    """The modules that a new interpreter has loaded after `code`."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(sys.modules))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_light_imports_stay_light():
    loaded = {
        name.split(".")[0] for name in fresh("import worldblocks.transforms, worldblocks.replay")
    }
    assert sorted(loaded & set(HEAVY)) == []


def test_the_package_loads_its_modules_on_first_use():
    loaded = fresh("import worldblocks")
    assert [name for name in loaded if name.startswith(("worldblocks.", "torch"))] == []


def test_the_shelf_is_complete():
    source = (SRC / "__init__.py").read_text(encoding="utf-8")
    shelf = re.search(r"__all__ = (\[.*?\])", source, re.DOTALL)
    assert sorted(ast.literal_eval(shelf[1])) == PUBLIC


@pytest.mark.parametrize("module", BLOCKS)
def test_every_public_name_is_in_the_docs(module):
    """The page names it, says what it is for, and mkdocstrings adds its docstring below."""
    page = (DOCS / "blocks" / f"{module}.md").read_text(encoding="utf-8")
    assert f"::: worldblocks.{module}" in page
    hand = page.split(f"::: worldblocks.{module}")[0]
    missing = [name for name in public_names(module) if not re.search(rf"\b{name}\b", hand)]
    assert missing == [], f"docs/blocks/{module}.md does not mention them"
    silent = [node.name for _, node in definitions(module) if not ast.get_docstring(node)]
    assert silent == [], f"no docstring: mkdocstrings leaves them out of docs/blocks/{module}.md"


def test_the_build_of_the_docs_names_what_is_not_rendered(monkeypatch):
    """The build itself fails then: a hook reads the inventory of the site."""
    pytest.importorskip("mkdocs", reason="needs the docs extra")
    monkeypatch.syspath_prepend(DOCS)
    rendered = importlib.import_module("_rendered")
    assert "hooks: [docs/_rendered.py]" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    every = {f"worldblocks.{m}.{name}" for m in BLOCKS for name in public_names(m)}
    assert rendered.absent(every - {"worldblocks.losses.balanced_kl"}) == ["losses.balanced_kl"]
    inside = "worldblocks.replay.batch.Batch"
    assert rendered.absent(every - {"worldblocks.replay.Batch"} | {inside}) == []


def test_the_readme_has_its_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipes = {"atari": "", "gym": " --env CartPole-v1", "dmc": " --task cartpole_swingup"}
    commands = {k: f"python recipes/dreamerv3_{k}.py cpu{rest}" for k, rest in recipes.items()}
    for extra, command in (commands | {"dev": "pytest"}).items():
        assert f'pip install -c constraints.txt -e ".[{extra}]" && {command}\n' in readme
