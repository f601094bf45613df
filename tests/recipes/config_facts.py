"""Facts of a run, to compare: what it is built from and what its first update computes."""

import dataclasses
import inspect
import itertools
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny_runs
import torch
from recorded_runs import Recording, after
from torch import nn

import worldblocks as wb

Facts = dict[str, Any]
GRADIENT = "gradient of the world"  # every loss changes it: checked only where it is named
COUNT = itertools.count()


class NullSink:
    """A sink that writes nothing."""

    def __init__(self, _: Any) -> None:
        pass

    def write(self, step: int, figures: Any) -> None:
        pass

    def close(self) -> None:
        pass


def spy(patch: pytest.MonkeyPatch, owner: Any, name: str, found: list[dict[str, Any]]) -> None:
    """Note the arguments, by name, of each call of a function or constructor."""
    function = getattr(owner, name)
    signature = inspect.signature(function)

    def noting(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        given = dict(bound.arguments)
        found.append({**given, **given.get("options", {})})
        return function(*args, **options)

    patch.setattr(owner, name, noting)


def perturb(module: nn.Module) -> None:
    """Give output layers that start as zeros other weights; else later gradients are zeros too.

    Two-hot heads then predict numbers from -1 to 1.
    """
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, wb.heads.TwoHotHead):
                part.out.bias.fill_(-30.0)
                part.out.bias[122:133] = torch.randn(11, generator=draw)
                part.out.weight[122:133] = torch.randn(11, part.out.in_features, generator=draw)
            elif isinstance(part, nn.Linear) and not part.weight.any():
                part.weight.copy_(torch.randn(part.weight.shape, generator=draw))


def facts(recipe: ModuleType, cfg: Any, folder: Path, *, steps: int = 0) -> Facts:
    """Of a run of `steps` steps in toy worlds; 0 for the parts alone, without an update."""
    seen: dict[str, list[Any]] = {}
    recording = Recording(image=not steps)
    logdir, number = folder / f"{next(COUNT)}" / (cfg.logdir or "run"), {}
    cfg = cfg if cfg.steps else dataclasses.replace(cfg, steps=steps)
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, recipe)
        build, head = recipe.build, wb.tasks.dreamer_head
        patch.setattr(recipe, "build", after(build, lambda made, *_: perturb(made[0])))
        patch.setattr(wb.tasks, "dreamer_head", after(head, lambda made, *_, **__: perturb(made)))
        watch(patch, seen)
        for owner, name, key in (
            (wb.replay.SequenceReplay, "__init__", "replay"),
            (wb.replay.MixtureReplay, "__init__", "mixture"),
            (wb.run, "Ratio", "ratio"),
            (wb.rssm, "imagine", "imagine"),
            (wb.language, "propose", "propose"),
            (wb.language.RewardSearch, "__init__", "search"),
            (wb.language, "SpecReward", "spec"),
            (wb.tasks, "TaskSampler", "sampler"),
        ):
            spy(patch, owner, name, seen.setdefault(key, []))
        for owner, name in ((wb.tasks, "judge"), (wb.language, "show")):
            patch.setattr(
                owner, name, lambda *args, _=name, **__: number.setdefault(_, args) and ""
            )
        casts = autocasts(patch, recipe)
        tiny_runs.run(recipe, cfg, logdir)
    found = begun(seen) | opened(recording) | {"turns": len(recording.named("send"))}
    for own in seen["sampler"]:
        found["sampler seed"] = own["seed"]
    for own in seen["ratio"]:
        found["ratio"] = round(float(own["ratio"]), 6)
    found |= replayed(seen) | sized(seen["session"][0]["parts"])
    for name, args in number.items():
        found[name] = [x for x in args if isinstance(x, int | float)]
    for event in recording.named("report"):
        found |= {"report": event.known["steps"], "report gamma": event.known["gamma"]}
    found |= asked(seen) | updated(recording, seen) | casts
    return found


def watch(patch: pytest.MonkeyPatch, seen: dict[str, list[Any]]) -> None:
    """Note the settings of a run, and write nothing."""
    patch.setattr("worldblocks.run.log.sinks.TensorBoardSink", NullSink)
    patch.setattr("worldblocks.run.log.sinks.WandbSink", NullSink)
    patch.setattr(wb.run.Session, "save", lambda *_, **__: None)
    for owner, name, key in (
        (wb.run, "Every", "every"),
        (wb.run.loop.run, "Progress", "progress"),
        (wb.run.loop.run, "run_folder", "folder"),
        (wb.run.loop.run, "named_sinks", "sinks"),
        (wb.run, "pick_device", "device"),
        (wb.run.Session, "__init__", "session"),
    ):
        spy(patch, owner, name, seen.setdefault(key, []))


def begun(seen: dict[str, list[Any]]) -> Facts:
    """The settings that `watch` noted, except the parts of the session."""
    found: Facts = {f"every {i}": every["n"] for i, every in enumerate(seen["every"])}
    found |= {"folder": Path(seen["folder"][0]["logdir"]).name, "device": seen["device"][0]["name"]}
    found |= {"total": seen["progress"][0]["total"], "sinks": seen["sinks"][0]["names"]}
    return found | {"torch seed": torch.initial_seed()}


def autocasts(patch: pytest.MonkeyPatch, recipe: ModuleType) -> Facts:
    """Whether an update and `act` compute in bfloat16."""
    casts = Facts({"update in bfloat16": False, "act in bfloat16": False})
    for owner, name, key in (
        (recipe, "world_model_loss", "update in bfloat16"),
        (wb.rssm.RSSM, "observe_step", "act in bfloat16"),
        (recipe, "vae_loss", "update in bfloat16"),
        (recipe, "ppo_loss", "update in bfloat16"),
    ):
        if not hasattr(owner, name):
            continue
        function = getattr(owner, name)

        def noting(*args: Any, _: Any = function, __: str = key, **options: Any) -> Any:
            casts[__] = torch.is_autocast_enabled("cpu")
            return _(*args, **options)

        patch.setattr(owner, name, noting)
    return casts


def opened(recording: Recording) -> Facts:
    """The environment vectors, and the arguments of their environments."""
    vectors = recording.named("open")
    found = {f"envs {name}": getattr(vectors[0], name) for name in ("n", "seed", "workers")}
    toys = [event.toy for event in recording.named("reset") if event.toy.home]
    found["played"] = tuple(dict.fromkeys(toy.made["what"] for toy in toys))
    return found | {f"env {k}": x for k, x in toys[0].made.items() if k not in ("factory", "what")}


def replayed(seen: dict[str, list[Any]]) -> Facts:
    found = Facts()
    for own in seen["replay"][:1]:
        found |= {f"replay {name}": own[name] for name in ("capacity", "streams", "length")}
        found["replay seed"] = own["seed"]
    for own in seen["mixture"][:1]:
        found["replay seed"] = own["seed"]
        found["relabelled"] = tuple(sorted(k for k, how in (own["relabel"] or {}).items() if how))
    return found


def sized(parts: dict[str, Any]) -> Facts:
    """Sizes of the trained modules, and the optimiser's numbers."""
    group = parts["optimizer"].param_groups[0]
    found = {name: group[name] for name in ("lr", "agc", "warmup") if name in group}
    agent = parts["agent"]
    names = {k: tuple(x.shape) for k, x in agent.state_dict().items()}
    core, latent = agent.rssm.core, agent.rssm.latent
    found |= {name: getattr(core, name) for name in ("deter", "blocks", "action_dim")}
    found |= {"groups": latent.groups, "classes": latent.classes, "recompute": agent.rssm.recompute}
    found["hidden"] = names["rssm.core.from_deter.linear.weight"][0]
    found["hidden of prior"] = names["rssm.latent.prior_mlp.0.linear.weight"][0]
    first = [k for k in names if k.endswith("mlp.0.linear.weight") and not k.startswith("rssm.")]
    found["units"] = tuple(sorted({names[name][0] for name in first}))
    images = [s[0] for k, s in names.items() if k.startswith("encoder.image") and len(s) == 4]
    found |= {"depth": images[0]} if images else {}
    found["modules"] = len(getattr(agent, "heads", ()) or ())
    if "sampler" in parts:
        weights = parts["sampler"].weights
        found["sampler"] = getattr(weights, "__name__", type(weights).__name__)
    return found


def asked(seen: dict[str, list[Any]]) -> Facts:
    """The proposal asked of a language model, and the search over its candidates."""
    found = Facts()
    for own in seen["propose"]:
        for name in ("reward", "instruction", "mission", "cache", "offline", "seed", "old"):
            found[f"propose {name}"] = str(own[name]) if name == "old" else own[name]
    for own in seen["search"]:
        names = ("heads", "envs", "full_score", "chance", "keep", "seed", "fixed")
        found |= {f"search {name}": own[name] for name in names}
    return found


def updated(recording: Recording, seen: dict[str, list[Any]]) -> Facts:
    """Numbers of the first update."""
    turns = recording.updates()
    found: Facts = {"updates": sum(turns), "first": next((i for i, n in enumerate(turns) if n), -1)}
    if not recording.named("update"):
        return found
    update = recording.named("update")[0]
    metrics = update.result if isinstance(update.result, dict) else update.result[1]
    found |= {name: float(x) for name, x in metrics.items() if name.startswith("loss/")}
    rows = [x for x in update.args if isinstance(x, wb.replay.Batch | wb.replay.Mixture)]
    if rows:
        reward = getattr(rows[0], "batch", rows[0]).reward
        found |= {"windows": reward.shape[0], "rows": reward.shape[1]}
    for own in seen["imagine"][:1]:
        found["imagined steps"], found["imagined from"] = own["steps"], len(own["state"].deter)
    found["rewards of specs"] = len(seen["spec"])
    slow = [name for name in update.after if "slow_value.copy." in name]
    if slow:
        found["share of the slow critic"] = round(slow_share(update, slow), 4)
    if hasattr(update.agent, "encoder"):
        weights = [p for p in update.agent.encoder.parameters() if p.grad is not None]
        found[GRADIENT] = sum(float(p.grad.double().abs().sum()) for p in weights)
    return found


def slow_share(update: Any, slow: list[str]) -> float:
    """The fraction of its distance to the critic that the slow copy moved."""
    critic = [update.after[name.replace("slow_value.copy", "value")] for name in slow]
    before, after = ([own[name] for name in slow] for own in (update.before, update.after))
    critic, before, after = (torch.cat([x.flatten() for x in of]) for of in (critic, before, after))
    place = (critic - before).abs().argmax()
    return float((after - before)[place] / (critic - before)[place])


def launched(recipe: ModuleType, option: list[str], patch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations of the runs that a command line starts."""
    made: list[Any] = []
    patch.setattr(sys, "argv", ["recipe.py", "smoke", "--logdir", "there", *option])
    presets = {"smoke": recipe.PRESETS["smoke"]}
    name = next(n for n in ("game", "task", "data", "env", "tasks") if hasattr(presets["smoke"], n))
    wb.run.launch(lambda cfg: bool(made.append(cfg)), presets, "", name=name)
    return made


def differences(ours: Facts, theirs: Facts) -> set[str]:
    """The names of the facts that differ by more than rounding."""
    return {key for key in {**ours, **theirs} if not same(ours.get(key), theirs.get(key))}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b
