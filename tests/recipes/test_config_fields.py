"""Every field of every Config is changed once, and changes the facts of a run that it should."""

import dataclasses
import fnmatch
import functools
import math
from typing import Any, NamedTuple

import pytest
import tiny_runs
from config_facts import GRADIENT, differences, facts, launched
from loop_table import LOOPS


class Row(NamedTuple):
    """Another value of a field, and the facts that it changes.

    The name of a fact may be a pattern such as `loss/*actor`. Its expected value is given as the
    value itself, as a multiple (`Times`) of the value before, or as `ANY` other value. The run has
    `steps` steps; `given` are other changes of its configuration, for both runs.
    """

    value: Any
    found: dict[str, Any]
    steps: int = 0
    given: dict[str, Any] | None = None


class Times(float):
    """An expected value, as a multiple of the value before."""


SOME = "some loss"
UPDATE = 8  # steps, for a first update: 4 rows are one window of each of 2 environments
ANY = ...


def loss(value: Any, *names: str, given: dict[str, Any] | None = None, **more: Any) -> Row:
    """A field that changes these losses and no other."""
    found = {f"loss/{name}" if name != SOME else SOME: ANY for name in names}
    return Row(value, found | more, UPDATE, given)


IMAGINED = ("*actor", "*critic")
RUN = {
    "steps": Row(4, {"total": 4, "turns": 2}),
    "logdir": Row("elsewhere", {"folder": "elsewhere"}),
    "seed": Row(5, {"torch seed": 5, "envs seed": 5, "replay seed": 5}),
    "seeds": Row((3, 4), {}),
    "resume": Row(True, {}),
    "device": Row("auto", {"device": "auto"}),
    "bf16": loss(True, SOME, **{"update in bfloat16": True, "act in bfloat16": True}),
    "envs": Row(3, {"envs n": 3, "replay streams": 3}),
    "workers": Row(True, {"envs workers": True}),
}
REPLAY = {
    "capacity": Row(50, {"replay capacity": 50}),
    "batch": loss(5, SOME, windows=5, ratio=0.266667, **{"imagined from": 15}),
    "length": loss(
        2,
        SOME,
        rows=2,
        ratio=0.666667,
        first=ANY,
        updates=ANY,
        **{"replay length": 2, "imagined from": 6},
    ),
    "train_ratio": Row(2.0, {"ratio": 0.222222}),
    "prefill": Row(3, {"first": 4, SOME: ANY}, UPDATE + 2),
}
SIZES = {
    "units": Row(16, {"units": (16,), "hidden": 16, "hidden of prior": 16}),
    "hidden": Row(6, {"hidden": 6, "hidden of prior": 6}),
    "deter": Row(32, {"deter": 32}),
    "classes": Row(5, {"classes": 5}),
    "depth": Row(4, {"depth": 8}),  # twice that at first
    "groups": Row(3, {"groups": 3}),
    "blocks": Row(4, {"blocks": 4}),
}
LEARNING = {
    "horizon": loss(3, *IMAGINED, **{"imagined steps": 3}),
    "imag_last": loss(2, *IMAGINED, **{"imagined from": 6}),
    "gamma": loss(0.5, "cont", "*replay_critic"),
    "lam": loss(0.5, *IMAGINED),
    "entropy": loss(0.5, "*actor"),
    "reconstruction": Row(3.0, {"loss/obs": Times(3)}, UPDATE),
    "lr": Row(0.5, {"lr": 0.5}),
    "warmup": Row(7, {"warmup": 7}),
    "agc": Row(0.7, {"agc": 0.7}),
}
LOG = {"log": Row(("wandb",), {"sinks": ("wandb",)})}
WRITING = {**LOG, "log_every": Row(5, {"every 0": 5}), "save_every": Row(5, {"every 1": 5})}
ONE_TASK = {
    **RUN,
    **REPLAY,
    **SIZES,
    **LEARNING,
    "image": Row(80, {"env size": 80}),
    "repeat": Row(7, {"env repeat": 7}),
    "recompute": Row(2, {"recompute": 2}),
    "slow_rate": Row(0.25, {"share of the slow critic": 0.25}, UPDATE),
    "actor_grad": loss("dynamics", "actor"),
    "mix": loss(0.2, "actor", given={"actor_grad": "mix"}),
    "return_floor": loss(0.1, "actor"),
    **LOG,
    "log_every": Row(5, {"every 0": 5}),
    "video_every": Row(5, {"every 1": 5}),
    "save_every": Row(5, {"every 2": 5}),
    "report_steps": Row(240, {"report": 240, "report gamma": 1 - 1 / 333}, UPDATE),
}
TASKS = {
    **RUN,
    **REPLAY,
    **SIZES,
    **LEARNING,
    **WRITING,
    "steps": Row(4, {"total": 4, "turns": 2 * 2}),
    "seed": Row(
        5,
        {"torch seed": 5, "envs seed": ANY, "replay seed": 5, "sampler seed": 5, "judge": [0, 5]},
    ),
    "batch": loss(5, SOME, windows=5, ratio=0.266667, updates=1, **{"imagined from": 15}),
    "prefill": Row(3, {"first": 2 * 4, "updates": ANY, SOME: ANY}, UPDATE + 2),
    "image": Row(80, {"env size": 80}),
    "repeat": Row(7, {"env repeat": 7}),
    "conditioned": Row(True, {"action_dim": 5}),
    "reward_grad": Row("all", {GRADIENT: ANY}, UPDATE),
    "progress": Row(True, {"sampler": "LearningProgress"}),
    "judge": Row(9, {"judge": [9, 0]}),
}
SEARCH = {
    "env": Row("BabyAI-Open-v0", {"played": ("BabyAI-Open-v0",)}),
    "instruction": Row("reach it", {"propose instruction": "reach it"}),
    "mission": Row(
        "touch blue",
        {"propose mission": "touch blue", "propose instruction": "touch blue"}
        | {"env mission": "touch blue"},
    ),
    "reward": Row("none", {"propose reward": "none", "modules": 1}),
    "cache": Row("here", {"propose cache": "here"}),
    "offline": Row(True, {"propose offline": True}),
    "imagined": loss(
        "features", *IMAGINED, **{"rewards of specs": 3, "search fixed": True}, given={"heads": 3}
    ),
    "heads": Row(3, {"search heads": 3, "modules": 3}),
    "full_score": Row(9.0, {"search full_score": 9.0}),
    "chance": Row(0.2, {"search chance": 0.2}),
    "keep": Row(0.5, {"search keep": 0.5}),
    "verbs": Row(("open",), {"env words": {"verbs": ("open",)}}),
    "features": Row(3.0, {"loss/features": Times(3)}, UPDATE),
    "judge": Row(9, {"show": [9, 0]}),
}
SEARCH = {
    **TASKS,
    **SEARCH,
    "steps": RUN["steps"],
    "seed": Row(
        5, {f"{name} seed": 5 for name in ("torch", "envs", "replay", "propose", "search")}
    ),
    "envs": Row(3, {"envs n": 3, "replay streams": 3, "search envs": 3}, given={"heads": 3}),
    "batch": REPLAY["batch"],
    "prefill": REPLAY["prefill"],
    "repeat": Row(
        7, {"env repeat": 7}, given={"env": "cartpole_balance", "instruction": "go", "heads": 50}
    ),
    "gamma": loss(0.5, "cont"),
}
for without in ("conditioned", "progress", "image"):
    del SEARCH[without]
ONE = {"modules": 1, "envs seed": ANY}
FIELDS: dict[str, dict[str, Row]] = {
    "dreamerv3_atari": ONE_TASK
    | {
        "game": Row("pong", {"played": ("pong",)}),
        "gray": Row(True, {"env gray": True}),
        "sticky": Row(0.7, {"env sticky": 0.7}),
        "noops": Row(3, {"env noops": 3}),
        "full_actions": Row(True, {"env full_actions": True}),
        "timeout_is_terminal": Row(False, {"env timeout_is_terminal": False}),
    },
    "dreamerv3_dmc": ONE_TASK
    | {
        "task": Row("hopper_hop", {"played": ("hopper_hop",)}),
        "pixels": Row(True, {"env pixels": True}),
    },
    "dreamerv3_gym": ONE_TASK
    | {
        "env": Row("Acrobot-v1", {"played": ("Acrobot-v1",)}),
        "env_args": Row('{"gravity": 5.0}', {"env gravity": 5.0}),
        "pixels": Row(True, {"env pixels": True}),
    },
    "multitask_dmc": TASKS
    | {
        "tasks": Row(
            ("reacher_hard",), {"played": ("reacher_hard",), "relabelled": ("reacher_hard",)} | ONE
        ),
        "pixels": Row(True, {"env pixels": True}),
        "relabel": Row(False, {"env relabel": False, "relabelled": ()}),
    },
    "multitask_atari": TASKS
    | {
        "tasks": Row(("boxing",), {"played": ("boxing",)} | ONE),
        "gray": Row(True, {"env gray": True}),
        "sticky": Row(0.7, {"env sticky": 0.7}),
        "report_steps": Row(240, {"report": 240, "report gamma": 1 - 1 / 333}, UPDATE),
    },
    "glam": SEARCH,
}
CASES = [(name, field) for name, rows in FIELDS.items() for field in rows]


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_is_left_out(name):
    fields = {field.name for field in dataclasses.fields(LOOPS[name].recipe.Config)}
    assert set(FIELDS[name]) == fields


def test_no_recipe_is_left_out():
    """The others are tools, or have no world model; they have files of their own."""
    others = {"adapt", "diagnose", "evaluate", "glam_policy", "instruct", "vae"}
    others |= {"world_model"}
    recipes = {path.stem for path in (tiny_runs.ROOT / "recipes").glob("*.py")}
    assert set(FIELDS) | others == recipes


@pytest.mark.parametrize(("name", "field"), CASES)
def test_a_field_arrives(name, field, tmp_path, monkeypatch):
    row, recipe = FIELDS[name][field], LOOPS[name].recipe
    cfg = dataclasses.replace(LOOPS[name].cfg, steps=0, length=3, prefill=1, **(row.given or {}))
    run = functools.partial(facts, recipe, folder=tmp_path, steps=row.steps)
    arrives(recipe, field, row, cfg, run, monkeypatch)


BASES: dict[Any, Any] = {}


def arrives(recipe: Any, field: str, row: Row, cfg: Any, run: Any, patch: Any) -> None:
    """Compare the facts of a run with those of one whose field is changed."""
    if field == "seeds":
        runs = launched(recipe, ["--seeds", *map(str, row.value)], patch)
        assert [(cfg.seed, cfg.seeds) for cfg in runs] == [(3, ()), (4, ())]
        return
    changed = dataclasses.replace(cfg, **{field: row.value})
    if field == "resume":
        what = "was proposed" if recipe is LOOPS["glam"].recipe else "to resume"
        with pytest.raises(FileNotFoundError, match=f"nothing {what} in"):
            run(changed)
        return
    key = recipe, row.steps, str(row.given)
    if key not in BASES:
        BASES[key] = run(cfg)
    check(BASES[key], run(changed), row.found)


def check(before: Any, after: Any, expected: dict[str, Any]) -> None:
    """The facts that differ are the expected ones, no others."""
    changed = differences(before, after)
    named = {
        pattern: fnmatch.filter(before | after, pattern) for pattern in expected if pattern != SOME
    }
    losses = fnmatch.filter(changed, "loss/*") if SOME in expected else []
    assert bool(losses) == (SOME in expected)
    assert all(named.values()), f"none of {list(after)} is {expected}"
    others = set(changed) - {key for keys in [*named.values(), losses] for key in keys} - {GRADIENT}
    assert not others, {key: (before.get(key), after.get(key)) for key in others}
    for pattern, keys in named.items():
        for key in keys:
            value = expected[pattern]
            assert key in changed, f"{key} is {before.get(key)} as before"
            if isinstance(value, Times):
                assert math.isclose(after[key], value * before[key], rel_tol=1e-5)
            elif value is not ANY:
                assert after.get(key) == value
