"""Folders are named as their factories; `wb.envs.atari` stays the function."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import worldblocks as wb

FOLDER = Path(wb.envs.__file__).parent
PATHS = sorted(path.relative_to(FOLDER).with_suffix("") for path in FOLDER.rglob("*.py"))
MODULES = [".".join(["worldblocks.envs", *p.parts]).removesuffix(".__init__") for p in PATHS]

# For each order, in a process that has none: import all modules, then call the factories.
SCRIPT = """
import importlib, os, pickle, pkgutil, random, sys, types
import beartype, jaxtyping, torch

modules = sys.argv[1:]
shuffled = [random.Random(seed).sample(modules, len(modules)) for seed in range(4)]
for order in [modules, modules[::-1], *shuffled]:
    child = os.fork()
    if not child:
        break
    assert os.waitpid(child, 0)[1] == 0, order
else:
    sys.exit()

assert "worldblocks" not in sys.modules
for name in order:
    exec(f"import {name}")
    importlib.import_module(name)
envs = sys.modules["worldblocks.envs"]
simulators = ["ale_py", "dm_control", "gymnasium", "minigrid", "crafter", "PIL"]
assert not set(simulators) & set(sys.modules)
sys.modules.update(dict.fromkeys(simulators))  # each is missing now
for name in envs.__all__:
    assert not isinstance(getattr(envs, name), types.ModuleType), name
calls = {"atari": "pong", "dmc": "walker_walk", "gym": "CartPole-v1", "minigrid": "BabyAI-Open-v0"}
for name, arguments in [*((k, [v]) for k, v in calls.items()), ("crafter", [])]:
    factory = getattr(envs, name)
    assert isinstance(sys.modules[f"worldblocks.envs.{name}"], types.ModuleType)
    assert pickle.loads(pickle.dumps(factory)) is factory
    assert pkgutil.resolve_name(f"worldblocks.envs:{name}") is factory
    try:
        factory(*arguments)
    except ImportError as error:
        print(error, flush=True)
os._exit(0)  # what torch does at exit takes longer than the rest
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_never_shadows_the_function_of_its_name():
    env = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    command = [sys.executable, "-c", SCRIPT, *MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines() == 6 * [
        f"wb.envs.{name} needs the extra '{name}': pip install -e \".[{name}]\""
        for name in ("atari", "dmc", "gym", "minigrid", "crafter")
    ]
