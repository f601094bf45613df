"""Every option of every recipe and tool against values outside its limits."""

import dataclasses
import importlib
import inspect
import math
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import worldblocks as wb
from worldblocks.run.cli.limits import limit_of, option_of

RECIPES = ("dreamerv3_atari", "dreamerv3_dmc", "dreamerv3_gym", "glam", "glam_policy")
RECIPES += ("multitask_atari", "multitask_dmc", "vae", "world_model")
TOOLS = ("adapt", "diagnose", "evaluate", "instruct")
NEEDED = {"run": Path("run"), "task": "walker_run", "instruction": "run"}
ELSEWHERE = {"image"}  # its limits depend on the encoder
COUNTS = "envs repeat capacity batch prefill units hidden deter classes depth groups blocks horizon"
COUNTS += " heads frames held_out latent value_units layers history rollout epochs episodes longest"
COUNTS += " fit updates random rows judged"
UP = "steps noops imag_last recompute warmup log_every video_every save_every judge rank before"
UP += " video settle"
WEIGHTS = "train_ratio entropy reconstruction lr agc full_score features kl value"
OUTSIDE = {
    **{key: [0, -5] for key in COUNTS.split()},
    **{key: [-1, -5] for key in UP.split()},
    **{key: [-0.1] for key in WEIGHTS.split()},
    **{key: [0.0, -1.0] for key in ("return_floor", "reward_scale", "clip", "max_norm")},
    **{key: [-0.1, 3.0] for key in ("sticky", "lam", "mix", "keep")},
    "chance": [0.0, 1.0],
    "slow_rate": [0.0, 0.5, 1.5],
    "gamma": [-0.1, 1.5],
    "length": [1, 0],
    "report_steps": [-1, 1, 83],
    "seed": [-1, 2**64],
    "seeds": [(0, -1), (2**64,)],
    "marks": [(-1, 5)],
}


def config(name):
    """The smallest configuration of a recipe or tool."""
    module = importlib.import_module(name)
    if hasattr(module, "PRESETS"):
        return module.PRESETS["smoke"]
    kept = inspect.signature(module.Config).parameters.keys() & NEEDED.keys()
    return module.Config(**{key: NEEDED[key] for key in kept if key != "task" or name == "adapt"})


def numbers(cfg):
    """The fields of numbers, with their types."""
    kinds = get_type_hints(type(cfg), include_extras=True)
    words = {key: str(kind) for key, kind in kinds.items()}
    return {key: kinds[key] for key, word in words.items() if "int" in word or "float" in word}


@pytest.mark.parametrize("name", RECIPES + TOOLS)
def test_an_option_outside_its_limits(name):
    cfg = config(name)
    for field, kind in numbers(cfg).items():
        if field in ELSEWHERE:
            continue
        outside = (
            OUTSIDE["steps"] + [83] if (name, field) == ("diagnose", "steps") else OUTSIDE[field]
        )
        if "float" in str(kind):
            outside = [*outside, math.nan, math.inf, -math.inf]
        assert limit_of(kind), f"{name} has no limit of {field}"
        for value in outside:
            with pytest.raises(ValueError, match=rf"^{option_of(field)} takes .*, got [-\d.ni]"):
                dataclasses.replace(cfg, **{field: value})


@pytest.mark.parametrize("option", ["--length 1", "--gamma 1.5", "--steps -5", "--lr nan"])
def test_nothing_is_built_or_written(option, tmp_path, monkeypatch, capsys):
    import dreamerv3_gym as recipe

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recipe.py", "smoke", *option.split()])
    with pytest.raises(SystemExit, match="2"):
        wb.run.launch(recipe.main, recipe.PRESETS, "", name="env")
    assert f"{option.split()[0]} takes" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_help_shows_the_limits(monkeypatch, capsys):
    import dreamerv3_gym as recipe

    monkeypatch.setattr(sys, "argv", ["recipe.py", "smoke", "--help"])
    with pytest.raises(SystemExit, match="0"):
        wb.run.launch(recipe.main, recipe.PRESETS, "", name="env")
    shown = capsys.readouterr().out
    assert "--length INT (2 or more)" in shown
    assert "--gamma FLOAT (0 or more and less than 1)" in shown
    assert "--report-steps INT (84 or more, or 0)" in shown
    assert "--deter INT (1 or more)" in shown
