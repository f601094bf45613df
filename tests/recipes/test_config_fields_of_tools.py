"""Every field of the Configs of adapt, instruct and evaluate changes the facts that it should."""

import dataclasses
import functools
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from config_facts import spy
from loop_table import LOOPS
from recorded_runs import Recording, recorded
from test_config_fields import ANY, Row, arrives

import adapt
import dreamerv3_gym
import evaluate
import instruct
import multitask_dmc
import worldblocks as wb

ALL = ("reacher_easy", "cartpole_balance")
POLE, STILL = "balance the pole upright", "keep the pole still"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs: of two tasks, of one task with a menu, and of images."""
    folder = tmp_path_factory.mktemp("runs")
    short = dataclasses.replace(LOOPS["multitask_dmc"].cfg, steps=22, repeat=5)
    recorded(multitask_dmc, dataclasses.replace(short, tasks=ALL), folder / "two")
    recorded(multitask_dmc, dataclasses.replace(short, tasks=ALL[1:]), folder / "pole")
    seen = dataclasses.replace(LOOPS["dreamerv3_gym"].cfg, steps=4)
    recorded(dreamerv3_gym, seen, folder / "images", image=True)
    for name in ("two", "pole", "images"):
        shutil.copytree(folder / name, folder / f"{name}-again")
    return folder


SPIED = (
    (wb.run, "pick_device", "device"),
    (wb.run, "recipe_of", "recipe"),
    (wb.language, "ranker", "ranker"),
    (wb.language, "SpecReward", "spec"),
    (wb.tasks, "TaskSampler", "sampler"),
    (wb.run, "Ratio", "ratio"),
    (instruct, "Discounted", "discount"),
    (wb.optim, "dreamer_optimizer", "optimizer"),
    (wb.run, "write_gif", "gif"),
    (wb.evaluate, "play", "play"),
)


def facts(tool: Any, others: Any, capsys: Any, cfg: Any) -> dict[str, Any]:
    """Of a call of a tool's `main`, in which it uses `others`."""
    seen: dict[str, list[Any]] = {}
    recording = Recording(image=cfg.run.name.startswith("images"))
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, tool, *others)
        for owner, name, key in SPIED:
            spy(patch, owner, name, seen.setdefault(key, []))
        assert tool.main(cfg) == 0
    lines = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = {"device": seen["device"][0]["name"]}
    found["torch seed"] = torch.initial_seed()
    found["recipe"] = seen["recipe"][0]["path"]
    opened = recording.named("open")
    found |= {"opened": [event.n for event in opened], "seeds": [event.seed for event in opened]}
    found["played"] = [*dict.fromkeys(event.toy.made["what"] for event in recording.named("reset"))]
    found["modes"] = sorted({event.mode for event in recording.named("act")})
    updates = [event for event in recording.named("update") if event.of == tool.__name__]
    found["updates"] = len(updates)
    for key, name in {"ratio": "ratio", "sampler": "seed", "discount": "ratio"}.items():
        found |= {f"{key} {name}": float(own[name]) for own in seen[key][:1]}
    found["specs"] = bool(seen["spec"])
    found |= {f"ranker {key}": x for own in seen["ranker"][:1] for key, x in own.items()}
    if tool is evaluate:
        weights = recording.named("act")[0].weights
        found["head"] = sum(_mark(x) for name, x in weights.items() if "actor" in name)
        words = next(line for line in lines if ": mean " in line).split()
        found |= {"result run": Path(words[0]).name.rstrip(":"), "json": lines[-1].startswith("{")}
        found["longest"] = seen["play"][0]["longest"]
        found["episodes"] = int(words[words.index("over") + 1])
        return found | {"frames": [len(own["frames"]) for own in seen["gif"]]}
    return found | learned(tool, cfg, updates, recording)


def learned(tool: Any, cfg: Any, updates: list[Any], recording: Recording) -> dict[str, Any]:
    """Of the result that was written, and of what was trained from which weights."""
    [path] = Path(cfg.logdir or cfg.run).rglob("result.json")
    result = json.loads(path.read_text())
    path.unlink()  # a second result is not written over it
    found = {"in": path.parent.name} | {
        f"result {k}": result[k] for k in ("run", "task", "seed", "world", "head") if k in result
    }
    if tool is adapt:
        found["marks"] = [one["step"] for one in result["evaluations"]]
        found["episodes"] = [len(one["scores"]) for one in result["evaluations"]]
        first = recording.named("open")[0].envs
        found["turns"] = sum(event.envs is first for event in recording.named("send"))
    else:
        lengths = {name: len(next(iter(by.values()))) for name, by in result["scores"].items()}
        found["episodes"] = lengths
        found["sentences"] = [(one["instruction"], one["meant"]) for one in result["sentences"]]
        moving = lambda e: any(  # noqa: E731
            ".actor." in k and not (e.before[k] == e.after[k]).all() for k in e.after
        )
        critic = lambda e: any(  # noqa: E731
            ".slow_value." in k and not (e.before[k] == e.after[k]).all() for k in e.after
        )
        found |= {"settled": sum(critic(e) and not moving(e) for e in updates)}
        found |= {"fitted": sum(not critic(e) for e in updates)}
    for event in updates[:1]:
        weights = {k: x.double() for k, x in event.before.items()}
        found["world"] = sum(_mark(x) for k, x in weights.items() if k.startswith("rssm"))
        found["head"] = sum(_mark(x) for k, x in weights.items() if "actor" in k)
        found["trained"] = sum(
            p.numel() for g in _optimizer(event).param_groups for p in g["params"]
        )
    return found


def _mark(x: Any) -> float:
    """A number that depends on the order of the entries."""
    return round(float((x.flatten() * x.new_ones(x.numel()).cumsum(0)).sum()), 4)


def _optimizer(event: Any) -> Any:
    return next(x for x in event.args if hasattr(x, "param_groups"))


NEW = "reacher_hard"
DMC, GYM = Path(multitask_dmc.__file__), Path(dreamerv3_gym.__file__)
ADAPT = {
    "recipe": Row(DMC, {"recipe": DMC}),
    "run": Row("two-again", {"result run": "two-again"}),
    "task": Row(
        "cartpole_balance",
        {"result task": "cartpole_balance", "played": ["cartpole_balance"], "seeds": ANY}
        | {"updates": 1},
    ),
    "logdir": Row("elsewhere", {"in": "elsewhere"}),
    "seed": Row(
        5,
        {"result seed": 5, "sampler seed": 5, "torch seed": 5, "head": ANY}
        | {"seeds": [zlib.crc32(NEW.encode()) + 5 + far for far in (0, 10**6, 10**6)]},
    ),
    "freeze": Row(True, {"result world": "kept-frozen", "trained": ANY}),
    "world": Row("shuffled", {"result world": "shuffled", "world": ANY, "head": ANY}),
    "head": Row("reacher_easy", {"result head": "reacher_easy", "head": ANY}),
    "marks": Row((0, 30), {"marks": [0, 30], "turns": 3, "updates": 1}),
    "before": Row(3, {"updates": 1 + 2 + 1}),
    "train_ratio": Row(12.0, {"ratio ratio": 1.0, "updates": 1 + 3}),
    "episodes": Row(3, {"episodes": [3, 3], "opened": [2, 3, 3]}),
    "device": Row("cpu", {"device": "cpu"}),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(adapt.Config)])
def test_a_field_of_adapt_arrives(field, runs, tmp_path, capsys, monkeypatch):
    """60 real steps are 6 turns; the last two may learn: one update, then none."""
    row = ADAPT[field]
    base = {"run": runs / "two", "task": NEW, "marks": (0, 60), "before": 1, "episodes": 2}
    base |= {"logdir": str(tmp_path / "run")}
    values = {"run": runs / "two-again", "logdir": str(tmp_path / "elsewhere")}
    row = row._replace(value=values.get(field, row.value))
    if field == "run":
        base["logdir"] = str(tmp_path / "there" / "run")
    run = functools.partial(facts, adapt, [multitask_dmc], capsys)
    arrives(adapt, field, row, adapt.Config(**base), run, monkeypatch)


INSTRUCT = {
    "recipe": Row(DMC, {"recipe": DMC}),
    "run": Row("pole-again", {"result run": "pole-again"}),
    "instruction": Row(STILL, {"sentences": [(STILL, STILL)], "episodes": ANY}),
    "meant": Row(STILL, {"sentences": [(POLE, STILL)], "episodes": ANY}),
    "sentences": Row("b.toml", {"sentences": [(STILL, STILL)], "episodes": ANY}),
    "logdir": Row("elsewhere", {"in": "elsewhere"}),
    "seed": Row(
        5, {"result seed": 5, "ranker seed": 5, "sampler seed": 5, "seeds": ANY, "torch seed": 5}
    ),
    "by": Row("random", {"ranker kind": "random", "sentences": ANY, "episodes": ANY}),
    "cache": Row("here", {"ranker cache": "here"}),
    "offline": Row(True, {"ranker offline": True}),
    "imagined": Row("head", {"specs": False}),
    "begin": Row("new", {"head": ANY}),
    "fit": Row(3, {"updates": 5, "fitted": 3}),
    "updates": Row(4, {"updates": 5}),
    "settle": Row(0, {"settled": 0}),
    "gamma": Row(0.5, {"discount ratio": 0.5 * 333 / 332}),
    "episodes": Row(3, {"episodes": ANY, "opened": [2, 3, 3]}),
    "random": Row(4, {"episodes": ANY, "opened": [4, 1, 1]}),
    "device": Row("cpu", {"device": "cpu"}),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(instruct.Config)])
def test_a_field_of_instruct_arrives(field, runs, tmp_path, capsys, monkeypatch):
    """One update of feature and reward heads, one without the actors, one of all."""
    row = INSTRUCT[field]
    base = {"run": runs / "pole", "instruction": POLE, "by": "oracle", "fit": 1, "updates": 2}
    base |= {"settle": 1, "episodes": 1, "random": 2, "logdir": str(tmp_path / "run")}
    if field == "sentences":
        for name, phrase in (("a", POLE), ("b", STILL)):
            text = f'[[sentence]]\ninstruction = "{phrase}"\nmeant = "{phrase}"\n'
            (runs / f"{name}.toml").write_text(text)
        row = row._replace(given={"instruction": "", "sentences": str(runs / "a.toml")})
    paths = {"run": runs / "pole-again", "sentences": str(runs / "b.toml")}
    paths |= {"logdir": str(tmp_path / "elsewhere")}
    row = row._replace(value=paths.get(field, row.value))
    cfg = instruct.Config(**base | (row.given or {}))
    run = functools.partial(facts, instruct, [], capsys)
    arrives(instruct, field, row, cfg, run, monkeypatch)


EVALUATE = {
    "recipe": Row(GYM, {"recipe": GYM}),
    "run": Row("images-again", {"result run": "images-again"}),
    "task": Row(
        "cartpole_balance",
        {"played": ["cartpole_balance"], "seeds": ANY, "head": ANY},
        given={"run": "two", "task": "reacher_easy"},
    ),
    "episodes": Row(3, {"episodes": 3}),
    "mode": Row(True, {"modes": [False, True], "opened": [1, 2, 2], "seeds": [0, 10**6, 10**6]}),
    "envs": Row(1, {"opened": [1, 1]}),
    "seed": Row(5, {"seeds": [0, 5], "torch seed": 5}),
    "device": Row("cpu", {"device": "cpu"}),
    "json": Row(True, {"json": True}),
    "video": Row(2, {"frames": [2]}),
    "longest": Row(999, {"longest": 999}),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(evaluate.Config)])
def test_a_field_of_evaluate_arrives(field, runs, capsys, monkeypatch):
    row = EVALUATE[field]
    base = {"run": runs / "images", "episodes": 2, "envs": 2, "video": 0}
    if row.given:
        row = row._replace(given={**row.given, "run": runs / row.given["run"]})
    if field == "run":
        row = row._replace(value=runs / row.value)
    cfg = evaluate.Config(**base | (row.given or {}))
    run = functools.partial(facts, evaluate, [dreamerv3_gym, multitask_dmc], capsys)
    arrives(evaluate, field, row, cfg, run, monkeypatch)
