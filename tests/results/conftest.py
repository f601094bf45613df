"""The scripts of `results` for the tests beside this file."""

import importlib
import sys
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
NAMES = ("entries", "grounding", "multitask", "next", "pages", "predictable", "provenance", "words")


@pytest.fixture(scope="module")
def modules():
    """The scripts, importable by each other as they are when run."""
    sys.path.insert(0, str(RESULTS))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(RESULTS))
    for name in NAMES:
        del sys.modules[name]
