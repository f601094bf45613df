"""The tool still works here: it finds mutants in typed functions, places them, sees them die."""

import json
import math
import os
import subprocess
import sys
import time

import pytest
import torch

from mutation import forks, swap
from mutation.mutate import parsed
from mutation.parts import PARTS, ROOT, SRC
from worldblocks import transforms

TRANSFORMS = SRC / "transforms.py"

RUN = """
import pathlib, sys
sys.path.insert(0, "tests")
from mutation import command, known
from mutation.parts import PARTS, Part
PARTS["transforms"] = Part("transforms.py", ())
known.KEPT = pathlib.Path(sys.argv[1])
ends = ("py:symlog:1", "_in_graph:1")
drawn = [one for one in command.draw(PARTS["transforms"], 0) if one.name.endswith(ends)]
command.run("transforms", drawn, float("inf"), 1)
"""


def mutant(name):
    return next(one for one in parsed(TRANSFORMS).mutants if one.name.endswith(name))


def test_each_part_has_its_files_and_tests():
    for part in PARTS.values():
        assert part.files()
        assert all((ROOT / path).exists() for path in part.paths())


def test_typed_functions_are_mutated_and_messages_are_not():
    mutants = parsed(TRANSFORMS).mutants
    functions = {one.function for one in mutants}
    assert {"symlog", "two_hot", "LearnableSymlog.forward", "_in_graph"} <= functions
    assert mutant(":symlog:1").change() == (
        "return x.clamp(min=0).log1p() - relu(-x).log1p()",
        "return x.clamp(min=0).log1p() + relu(-x).log1p()",
    )
    strings = [getattr(one.mutation.original_node, "value", "") for one in mutants]
    assert '"forward"' in strings
    assert not any("sum to 1" in str(text) for text in strings)


def test_a_mutant_is_in_place_behind_its_decorator():
    function, minus = transforms.symlog.__wrapped__, torch.tensor(-1.0)
    code = function.__code__
    try:
        text = TRANSFORMS.read_text("utf-8")
        assert swap.put(str(TRANSFORMS), text, mutant(":symlog:1").source()) == 1
        assert transforms.symlog(minus).item() == pytest.approx(math.log(2))
    finally:
        function.__code__ = code
    assert transforms.symlog(minus).item() == pytest.approx(-math.log(2))


def test_a_changed_default_is_in_place():
    text = "def f(a, b=1, *, c=2):\n    return a + b + c\n"
    space = {}
    exec(compile(text, "a_file.py", "exec"), space)
    swap.functions.cache_clear()
    try:
        assert swap.put("a_file.py", text, text.replace("c=2", "c=3")) == 1
    finally:
        swap.functions.cache_clear()
    assert space["f"](1) == 5


def until_over(child):
    while (found := child.result()) is None:
        time.sleep(0.05)
    return found


def test_a_fork_answers_crashes_or_is_ended(monkeypatch):
    monkeypatch.setattr(forks, "GRACE", 1)
    monkeypatch.setattr(forks, "ASLEEP", 0.5)

    def spin():
        while True:
            pass

    assert forks.Child(lambda: ["x"] * 99_999, 0).result(wait=True) == ["x"] * 99_999
    assert forks.Child(lambda: os._exit(3), 0).result(wait=True) == "crashed"
    assert forks.Child(spin, 0).result(wait=True) == "endless"
    assert until_over(forks.Child(lambda: time.sleep(60), 0)) == "endless"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        forks.Child(lambda: 1 / 0, 0).result(wait=True)


def test_the_command_on_doctests_alone(tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = (tmp_path / "transforms.jsonl").read_text("utf-8").splitlines()
    found = {one["name"]: one["state"] for one in map(json.loads, lines)}
    assert found == {"transforms.py:symlog:1": "killed", "transforms.py:_in_graph:1": "survived"}
    assert "survived: transforms.py:_in_graph:1" in done.stdout
