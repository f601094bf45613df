"""All else is in pyproject.toml: a wheel has the recipes too, inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """The package, and the top folder `recipes` as its `_recipes`."""

    def run(self):
        super().run()
        if not self.editable_mode:  # which uses the folder itself
            target = Path(self.build_lib, "worldblocks", "_recipes")
            shutil.rmtree(target, ignore_errors=True)  # what an earlier build left
            shutil.copytree("recipes", target, ignore=shutil.ignore_patterns("__pycache__", ".*"))


setup(cmdclass={"build_py": BuildWithRecipes})
