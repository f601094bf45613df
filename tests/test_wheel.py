"""A wheel is enough: in an environment outside the clone, blocks, checks, a recipe and a tool."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a part of .ci/run: most of a minute

ROOT = Path(__file__).parents[1]
BUILT_FROM = ["src", "recipes", "pyproject.toml", "setup.py", "README.md", "LICENSE"]


class Installed:
    """A virtual environment with the wheel; what it depends on is read from this one."""

    def __init__(self, tmp: Path):
        source, self.folder = tmp / "source", tmp / "elsewhere"
        source.mkdir()
        self.folder.mkdir()
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in BUILT_FROM:
            path = ROOT / name
            if path.is_dir():
                shutil.copytree(path, source / name, ignore=ignore)
            else:
                shutil.copy(path, source)
        pip = [sys.executable, "-m", "pip"]
        self.run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp, source)
        shutil.rmtree(source)
        (self.wheel,) = tmp.glob("worldblocks-*.whl")
        venv.create(tmp / "env", symlinks=True)
        self.python = tmp / "env" / "bin" / "python"
        place = {"base": str(tmp / "env"), "platbase": str(tmp / "env")}
        site = Path(sysconfig.get_path("purelib", "venv", place))
        # A line of a .pth file adds a folder and not its own .pth files: no editable install.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        self.run(*pip, "--python", self.python, "install", "-q", "--no-deps", self.wheel)
        self.package = site / "worldblocks"

    def run(self, *command, ok: bool = True) -> str:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            list(map(str, command)), cwd=self.folder, env=env, capture_output=True, text=True
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_it_has_the_recipes_of_the_repository(installed):
    def files(folder):
        paths = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        return {path.relative_to(folder): path.read_bytes() for path in paths}

    assert files(installed.package / "_recipes") == files(ROOT / "recipes")


def test_a_missing_extra_is_installed_from_the_wheel(installed):
    code = """
import sys
sys.modules["minigrid"] = None  # as if it were not installed
import worldblocks as wb
wb.envs.minigrid("BabyAI-GoToLocalS5N2-v0")
"""
    said = installed.run(installed.python, "-c", code, ok=False)
    command = f'pip install "worldblocks[minigrid] @ {installed.wheel.as_uri()}"'
    assert said.splitlines()[-1] == (
        f"ImportError: wb.envs.minigrid needs the extra 'minigrid': {command}"
    )


def test_a_recipe_is_copied_run_and_judged_elsewhere(installed):
    python, folder = installed.python, installed.folder
    assert "needs pip install" in installed.run(
        python, "-m", "worldblocks.recipes", "dreamerv3_gym"
    )
    (folder / "dreamerv3_gym.py").rename(folder / "mine.py")
    env = ["--env", "worldblocks.testing:Catch"]
    installed.run(python, "mine.py", "smoke", *env, "--steps", 128, "--logdir", "run")
    (folder / "tools").mkdir()
    installed.run(python, "-m", "worldblocks.recipes", "evaluate")
    (folder / "evaluate.py").rename(folder / "tools" / "evaluate.py")
    command = [python, "tools/evaluate.py", "run", "--episodes", 2]
    assert "give its file with --recipe" in installed.run(*command, ok=False)
    assert "run: mean" in installed.run(*command, "--recipe", "mine.py")


def test_its_checks_judge_a_block(installed):
    code = """
import torch, worldblocks as wb
spaces = {"vector": wb.spaces.Continuous((5,))}
make = lambda: wb.encoders.dreamer_encoder(spaces, depth=2, units=8)
print(len(wb.testing.check_encoder(make, spaces=spaces).kept))
"""
    assert installed.run(installed.python, "-c", code)
