"""Every field of the Configs of vae and glam_policy changes the facts that it should."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from config_facts import COUNT, autocasts, begun, opened, spy, watch
from recorded_runs import Recording, after
from test_config_fields import ANY, FIELDS, SOME, Row, Times, arrives

import glam_policy
import vae
import worldblocks as wb

# ------------------------------------------------------------------ vae

RUN = {name: FIELDS["dreamerv3_gym"][name] for name in ("seeds", "resume", "logdir", "device")}
VAE_BASE = dataclasses.replace(
    vae.PRESETS["smoke"], steps=1, frames=5, held_out=2, latent=3, batch=4, warmup=0
)
VAE = {
    **RUN,
    **{name: FIELDS["dreamerv3_gym"][name] for name in ("env", "env_args", "image", "pixels")},
    "steps": Row(2, {"updates": 2, "total": 2}),
    "seed": Row(5, {"torch seed": 5, "envs seed": 5, SOME: ANY}),
    "bf16": Row(True, {"update in bfloat16": True, SOME: ANY}),
    "envs": Row(3, {"envs n": 3, SOME: ANY}),
    "frames": Row(9, {"collected": 11, SOME: ANY}),
    "held_out": Row(3, {"held out": 3, "collected": 8}),
    "latent": Row(5, {"latent": 5, SOME: ANY}),
    "depth": Row(4, {"depth": 8, SOME: ANY}),
    "reconstruction": Row("l1", {"loss/reconstruction": ANY}),
    "kl": Row(3.0, {"loss/kl": Times(3)}),
    "batch": Row(3, {"batch": 3, SOME: ANY}),
    "lr": Row(0.5, {"lr": 0.5}),
    "warmup": Row(7, {"warmup": 7}),
    "agc": Row(0.7, {"agc": 0.7}),
    "log": Row(("wandb",), {"sinks": ("wandb",)}),
    "log_every": Row(5, {"every 0": 5}),
    "save_every": Row(5, {"every 1": 5}),
}


def stand_in(found: list[Any], name: str) -> Any:
    """A constructor of a small model, in place of one that would be installed or loaded."""

    def made(what: str) -> Any:
        found.append({name: what})
        return LLAMA(units=16, layers=1, heads=2)

    return made


LLAMA = wb.language.untrained_llama


def run_facts(recipe: Any, cfg: Any, folder: Path) -> dict[str, Any]:
    """Of a run of `vae` or `glam_policy`."""
    seen: dict[str, list[Any]] = {}
    recording = Recording(image=recipe is vae)
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, recipe)
        watch(patch, seen)
        for owner, name, key in (
            (wb.language, "Prompted", "prompted"),
            (wb.returns, "gae", "gae"),
            (wb.losses, "clipped_policy", "clip"),
            (wb.losses, "clipped_value", "clip of value"),
            (torch.nn.utils, "clip_grad_norm_", "norm"),
            (wb.language, "LanguagePolicy", "policy"),
            (wb.language, "untrained_llama", "model"),
        ):
            spy(patch, owner, name, seen.setdefault(key, []))
        patch.setattr(
            wb.language, "PackagedLM", stand_in(seen.setdefault("packaged", []), "packaged")
        )
        loaded = stand_in(seen.setdefault("loaded", []), "loaded")
        patch.setattr(wb.language.TransformersLM, "load", loaded)
        if recipe is vae:
            collect = vae.collect
            patch.setattr(vae, "collect", after(collect, lambda x, *_: seen.update(frames=[x])))
        casts = autocasts(patch, recipe)
        tiny_runs.run(recipe, cfg, folder / f"{next(COUNT)}" / (cfg.logdir or "run"))
    updates, parts = recording.named("update"), seen["session"][0]["parts"]
    group = parts["optimizer"].param_groups[0]
    found = {name: group[name] for name in ("lr", "agc", "warmup") if name in group}
    found |= begun(seen) | opened(recording) | casts | {"updates": len(updates)}
    found |= {name: float(x) for name, x in updates[0].result.items() if name.startswith("loss/")}
    if recipe is not vae:
        return found | policy_facts(seen, updates)
    encoder = parts["encoder"].state_dict()
    judged = recording.named("judge")[-1].args[1]
    found |= {"latent": parts["encoder"].embed_dim, "held out": len(judged)}
    found["depth"] = next(x.shape[0] for x in encoder.values() if x.ndim == 4)
    return found | {"batch": len(updates[0].args[2]), "collected": len(seen["frames"][0])}


def policy_facts(seen: dict[str, list[Any]], updates: list[Any]) -> dict[str, Any]:
    """The language model, and the arguments of PPO."""
    found = {f"of {k}": seen["policy"][0][k] for k in ("rank", "units", "per_token")}
    found |= {f"model {k}": own[k] for own in seen["model"] for k in ("units", "layers", "heads")}
    for own in [*seen["packaged"], *seen["loaded"]]:
        found |= own
    found["history"] = seen["prompted"][0]["history"]
    gae = seen["gae"][0]
    names = [*gae]
    reward, live, lam = gae[names[0]], gae[names[1]], gae[names[4]]
    found |= {"paid": float(reward.max()), "gamma": float(live.max()), "lam": float(lam.max())}
    found |= {"rollout": reward.shape[1], "max_norm": seen["norm"][0]["max_norm"]}
    found |= {name: seen[name][0]["clip"] for name in ("clip", "clip of value")}
    return found | {"batch": len(updates[0].args[2].prompt)}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(vae.Config)])
def test_a_field_of_vae_arrives(field, tmp_path, monkeypatch):
    run = functools.partial(run_facts, vae, folder=tmp_path)
    arrives(vae, field, VAE[field], VAE_BASE, run, monkeypatch)


# ------------------------------------------------------------------ glam_policy

POLICY_BASE = dataclasses.replace(
    glam_policy.PRESETS["smoke"], steps=12, rollout=6, epochs=1, batch=20, history=2
)
POLICY = {
    **RUN,
    "env": Row("BabyAI-Open-v0", {"played": ("BabyAI-Open-v0",)}),
    "steps": Row(24, {"total": 24, "updates": 2}),
    "seed": Row(5, {"torch seed": 5, "envs seed": 5, "batch": ANY} | {SOME: ANY}),
    "model": Row(
        "smollm2",
        {"packaged": "smollm2"} | {f"model {k}": None for k in ("units", "layers", "heads")},
    ),
    "rank": Row(3, {"of rank": 3} | {SOME: ANY}),
    "per_token": Row(False, {"of per_token": False, "paid": ANY} | {SOME: ANY}),
    "value_units": Row(8, {"of units": 8} | {SOME: ANY}),
    "units": Row(20, {"model units": 20} | {SOME: ANY}),
    "layers": Row(2, {"model layers": 2} | {SOME: ANY}),
    "heads": Row(4, {"model heads": 4}),
    "envs": Row(3, {"envs n": 3, "batch": ANY} | {SOME: ANY}),
    "mission": Row("touch blue", {"env mission": "touch blue"}),
    "history": Row(3, {"history": 3} | {SOME: ANY}),
    "reward_scale": Row(3.0, {"paid": 3.0, "loss/policy": ANY, "loss/value": ANY}),
    "rollout": Row(5, {"rollout": 5, "batch": ANY, "updates": 2} | {SOME: ANY}),
    "epochs": Row(2, {"updates": 2}),
    "batch": Row(4, {"batch": 4, "updates": 3} | {SOME: ANY}),
    "gamma": Row(0.5, {"gamma": 0.5, "loss/policy": ANY, "loss/value": ANY}),
    "lam": Row(0.5, {"lam": 0.5, "loss/policy": ANY, "loss/value": ANY}),
    "clip": Row(0.7, {"clip": 0.7, "clip of value": 0.7}),
    "entropy": Row(0.03, {"loss/entropy": Times(3)}),
    "value": Row(1.5, {"loss/value": Times(3)}),
    "lr": Row(0.5, {"lr": 0.5}),
    "max_norm": Row(0.7, {"max_norm": 0.7}),
    "log": Row(("wandb",), {"sinks": ("wandb",)}),
    "log_every": Row(5, {"every 0": 5}),
    "save_every": Row(5, {"every 1": 5}),
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(glam_policy.Config)])
def test_a_field_of_glam_policy_arrives(field, tmp_path, monkeypatch):
    pytest.importorskip("peft", reason="needs the extra llm")
    run = functools.partial(run_facts, glam_policy, folder=tmp_path)
    arrives(glam_policy, field, POLICY[field], POLICY_BASE, run, monkeypatch)
