"""The recipe on a fixed data set: its data, its loop, its picture, every field of its Config."""

import dataclasses
import functools
import os
import re
import signal

import numpy as np
import pytest
import tiny_runs
import torch
from config_facts import COUNT, autocasts, begun, perturb, sized, spy, watch
from recorded_runs import Recording, after, recorded
from test_config_fields import ANY, FIELDS, SOME, Row, Times, arrives
from tiny_runs import same_run

import world_model as recipe
import worldblocks as wb

TINY = dataclasses.replace(
    recipe.PRESETS["smoke"], steps=7, held_out=2, batch=3, length=4, log_every=3, save_every=4
)


def episode(number, rows, image=True):
    """Rows numbered in their reward, so that it shows which are trained on."""
    draw = np.random.default_rng(number)
    seen = {"speed": draw.normal(size=(rows, 2)), "door": draw.integers(3, size=rows)}
    seen |= {"cam": draw.integers(256, size=(rows, 48, 48, 1), dtype=np.uint8)} if image else {}
    action, reward = draw.uniform(-1, 1, (rows - 1, 2)), 100.0 * number + np.arange(1, rows)
    return wb.replay.episode_from_numpy(seen, action, reward, terminated=number % 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight episodes of 6 to 27 rows, as a folder."""
    folder = tmp_path_factory.mktemp("data") / "set"
    wb.replay.write_npz(folder, [episode(k, 6 + 3 * k) for k in range(8)])
    return folder


def run(folder, data, **changes):
    return tiny_runs.run(recipe, TINY, folder, data=str(data), **changes)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A data set, and a run on it by its documented command."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_runs.run(recipe, recipe.PRESETS["smoke"], folder / "none", make_data=str(folder / "catch"))
    return folder, tiny_runs.smoke("world_model", folder / "run", "--data", folder / "catch")


def test_a_data_set_of_random_play(smoke):
    folder, _ = smoke
    assert not (folder / "none").exists()
    episodes = list(wb.replay.read_npz(folder / "catch"))
    assert sum(len(each.reward) for each in episodes) == 400
    assert wb.replay.observation_spaces(episodes) == {"image": wb.spaces.Image(48, 48, 1)}
    assert {len(each.reward) for each in episodes} == {24, 4}, "4 are cut by the end"
    assert len(torch.cat([each.prev_action[1:] for each in episodes]).unique(dim=0)) == 3


def test_smoke_logs_both_losses_and_names_its_picture(smoke):
    folder, trained = smoke
    lines = wb.run.read_jsonl(folder / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    for kind in ("loss", "held_out"):
        names = {name.partition("/")[2] for name in lines[0] if name.startswith(kind)}
        assert names == {"dyn", "rep", "obs", "reward", "cont"}
        assert lines[-1][f"{kind}/obs"] < 0.5 * lines[0][f"{kind}/obs"]
    path = folder / "run" / "open_loop.gif"
    assert f"5 rows seen, 15 imagined from the actions: {path}" in trained
    with pytest.importorskip("PIL.Image").open(path) as picture:
        assert picture.n_frames == wb.diagnose.LENGTH


def test_load(smoke):
    agent, cfg = recipe.load(smoke[0] / "run", device="cpu")
    assert (cfg.units, agent.training) == (16, False)
    saved = wb.run.Checkpoint(smoke[0] / "run").weights("agent")
    assert all(torch.equal(x, saved[name]) for name, x in agent.state_dict().items())


def test_interrupted_and_resumed_equals_uninterrupted(data, tmp_path, monkeypatch, capsys):
    whole = run(tmp_path / "whole", data)
    calls, update = [], recipe.update

    def interrupting(*args, **options):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(*args, **options)

    monkeypatch.setattr(recipe, "update", interrupting)
    part = run(tmp_path / "part", data, code=128 + signal.SIGTERM)
    assert len(calls) == 4
    assert not (part / "open_loop.gif").exists()
    run(part, data, resume=True)
    (part / "episodes.jsonl").touch()
    (whole / "episodes.jsonl").touch()
    same_run(part, whole)
    assert (part / "open_loop.gif").read_bytes() == (whole / "open_loop.gif").read_bytes()


def test_held_out_episodes_are_never_trained_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "draw", lambda *_: "no picture")
    cfg = dataclasses.replace(TINY, data=str(data))
    found = recorded(recipe, cfg, tmp_path / "run")
    number = lambda batch: {int(x) // 100 for x in batch.reward.flatten()}  # noqa: E731
    batches = [event.args[2] for event in found.named("update")]
    assert len(batches) == 7
    assert set.union(*map(number, batches)) <= {0, 1, 2, 3, 4, 5}
    assert len({bytes(batch.reward.numpy()) for batch in batches}) == 7, "drawn anew"
    judged = [event.args[1] for event in found.named("judge")]
    assert all(torch.equal(x.reward, judged[0].reward) for x in judged)
    assert number(judged[0]) - {0} == {6, 7}, "the reward of a first row is 0"
    order = [*["update"] * 3, "judge", "log", "update", "save", *["update"] * 2, "judge", "log"]
    assert found.names("update", "judge", "log", "save") == [*order, "update", "save"]
    line, result = found.named("log")[-1].figures, found.named("judge")[-1].result
    assert {name: line[name] for name in result} == pytest.approx(
        {name: float(value) for name, value in result.items()}
    )


@pytest.mark.parametrize("rows", [19, 20, 30])
def test_a_picture_of_vectors(rows, tmp_path, capsys):
    data = tmp_path / "set"
    wb.replay.write_npz(data, [episode(k, rows, image=False) for k in range(4)])
    folder = run(tmp_path / "run", data, steps=1)
    said, path = capsys.readouterr().out, folder / "open_loop.png"
    if rows < wb.diagnose.LENGTH:
        assert "no open-loop picture: none of 2 held-out episodes has 20 rows" in said
        assert not path.exists()
    else:
        assert f"5 rows seen, 15 imagined from the actions: {path}" in said
        with pytest.importorskip("PIL.Image").open(path) as picture:
            assert picture.size == (700, 5 * 160), "2 numbers and 3 classes"


def test_a_picture_of_boards(tmp_path, capsys):
    board, data = np.arange(20 * 60, dtype=np.uint8).reshape(20, 6, 5, 2) % 3, tmp_path / "set"
    played = wb.replay.episode_from_numpy({"map": board}, np.zeros((19, 1)), np.zeros(19), True)
    wb.replay.write_npz(data, [played] * 3)
    folder = run(tmp_path / "run", data, steps=1, grids='{"map": 3}')
    assert f"imagined from the actions: {folder / 'open_loop.gif'}" in capsys.readouterr().out
    assert recipe.load(folder, "cpu")[0].encoder.picture_keys == ["map"]


def test_settings_that_do_not_fit_the_data(data, tmp_path):
    with pytest.raises(ValueError, match=r"--data names .* none was given; --make-data FOLDER"):
        recipe.main(TINY)
    with pytest.raises(FileNotFoundError, match="no episodes in nowhere: it is not a folder"):
        recipe.main(dataclasses.replace(TINY, data="nowhere"))
    for number in (8, 20):
        wanted = rf"--held-out takes 1 to 7 of the 8 episodes in .*, got {number}"
        with pytest.raises(ValueError, match=wanted):
            recipe.main(dataclasses.replace(TINY, data=str(data), held_out=number))
    wb.replay.write_npz(tmp_path / "one", [episode(0, 8)])
    with pytest.raises(ValueError, match="one has one episode; two are needed, one of them held"):
        recipe.main(dataclasses.replace(TINY, data=str(tmp_path / "one")))


@pytest.mark.parametrize(("episodes", "held_out"), [(2, 1), (3, 1), (17, 3), (120, 20)])
def test_a_fifth_is_held_out(episodes, held_out, tmp_path):
    wb.replay.write_npz(tmp_path / "set", [episode(k, 3, image=False) for k in range(episodes)])
    cfg = dataclasses.replace(TINY, data=str(tmp_path / "set"), held_out=None)
    train, apart, _ = recipe.read(cfg)
    assert (len(train), len(apart)) == (episodes - held_out, held_out)


def test_a_data_set_that_has_changed(tmp_path):
    data = tmp_path / "set"
    wb.replay.write_npz(data, [episode(k, 8) for k in range(4)])
    folder = run(tmp_path / "run", data, steps=1)
    (data / "episode-000000.npz").unlink()
    with pytest.raises(ValueError, match=r"trained on 16 rows, and .* has 8 now: restore its fil"):
        run(folder, data, steps=2, resume=True)
    for path in data.iterdir():
        path.unlink()
    wb.replay.write_npz(data, [episode(k, 8, image=False) for k in range(4)])
    changed = r"data, of .* has changed since: observation 'cam' was Image.* and is absent; use"
    with pytest.raises(ValueError, match=changed):
        run(folder, data, steps=2, resume=True)
    with pytest.raises(ValueError, match=changed):
        recipe.load(folder, device="cpu")


# ------------------------------------------------------------------ every field arrives

BASE = dataclasses.replace(TINY, steps=1, warmup=0, log_every=1)
GYM = FIELDS["dreamerv3_gym"]
SAME = ("seeds", "resume", "logdir", "device", "recompute", "lr", "warmup", "agc", "log")
SIZES = {"units": 24, "hidden": 6, "deter": 48, "classes": 5, "depth": 4, "groups": 3, "blocks": 4}
SIZED = {"units": ("units", "hidden", "hidden of prior"), "hidden": ("hidden", "hidden of prior")}
ROWS = {
    **{name: GYM[name] for name in SAME},
    **{
        name: Row(value, dict.fromkeys((*SIZED.get(name, (name,)), SOME), ANY))
        for name, value in SIZES.items()
    },
    "data": Row("other", {"rows of data": 105, SOME: ANY}),
    "steps": Row(2, {"updates": 2, "total": 2}),
    "grids": Row('{"cam": 256}', {"grid": ["cam"], "depth": None, SOME: ANY}),
    "seed": Row(5, {"torch seed": 5, "replay seed": 5, SOME: ANY}),
    "bf16": Row(True, {"update in bfloat16": True, SOME: ANY}),
    "held_out": Row(3, {"held out": 3, "rows of data": ANY, SOME: ANY}),
    "judged": Row(3, {"judged": 3}),
    "batch": Row(5, {"windows": 5, SOME: ANY}),
    "length": Row(5, {"rows": 5, "replay length": 5, SOME: ANY}),
    "gamma": Row(0.5, {"loss/cont": ANY}),
    "reconstruction": Row(3.0, {"loss/obs": Times(3)}),
    "log_every": Row(5, {"every 0": 5, "judged": 0}),
    "save_every": Row(5, {"every 1": 5}),
}
MADE = {
    "make_data": ("there", {"folder": "there"}),
    "rows": (40, {"rows": 40}),
    "env": ("CartPole-v1", {"env": "CartPole-v1"}),
    "env_args": ('{"cells": 5}', {"cells": 5}),
    "pixels": (True, {"pixels": True}),
    "image": (32, {"size": 32}),
}


def test_no_field_is_left_out():
    assert {field.name for field in dataclasses.fields(recipe.Config)} == ROWS.keys() | MADE.keys()


@pytest.mark.parametrize("field", ROWS)
def test_a_field_arrives(field, data, tmp_path, monkeypatch):
    rows = ROWS[field]
    if field == "data":
        wb.replay.write_npz(tmp_path / "other", [episode(k, 9 + 2 * k) for k in range(9)])
        rows = rows._replace(value=str(tmp_path / "other"))
    base = dataclasses.replace(BASE, data=str(data))
    arrives(recipe, field, rows, base, functools.partial(facts, folder=tmp_path), monkeypatch)


def facts(cfg, folder):
    """Of a short run."""
    seen, recording = {}, Recording()
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, recipe)
        build = recipe.build
        patch.setattr(recipe, "build", after(build, lambda made, *_: perturb(made[0])))
        watch(patch, seen)
        spy(patch, wb.replay.SequenceReplay, "__init__", seen.setdefault("replay", []))
        patch.setattr(recipe, "drawable", lambda episodes: seen.update(draw=episodes))
        casts = autocasts(patch, recipe)
        tiny_runs.run(recipe, cfg, folder / f"{next(COUNT)}" / (cfg.logdir or "run"))
    updates, first = recording.named("update"), seen["replay"][0]
    batch = updates[0].args[2]
    found = begun(seen) | sized(seen["session"][0]["parts"]) | casts
    found |= {name: float(x) for name, x in updates[0].result.items() if name.startswith("loss/")}
    found |= {"updates": len(updates), "windows": len(batch.reward), "rows": batch.reward.shape[1]}
    found |= {"replay length": first["length"], "replay seed": first["seed"]}
    found |= {"rows of data": first["capacity"], "held out": len(seen["draw"])}
    found["grid"] = seen["session"][0]["parts"]["agent"].encoder.grid_keys
    judged = recording.named("judge")
    return found | {"judged": len(judged[0].args[1].reward) if judged else 0}


@pytest.mark.parametrize("field", MADE)
def test_a_field_of_the_data_arrives(field, tmp_path, monkeypatch):
    value, expected = MADE[field]
    base = made(dataclasses.replace(TINY, make_data="here", rows=20, seed=3), monkeypatch)
    assert base == {
        "folder": "here",
        "env": "worldblocks.testing:Catch",
        "cells": 24,
        "pixels": False,
        "size": None,
        "rows": 20,
        "seed": 3,
    }
    cfg = dataclasses.replace(TINY, **{"make_data": "here", "rows": 20, "seed": 3, field: value})
    assert made(cfg, monkeypatch) == base | expected


def made(cfg, patch):
    """What a data set is made of; nothing is written."""
    found, envs, seeds = {}, [], []

    def make(env, **options):
        found.update(env=env, **options)
        return wb.testing.Catch()

    def write(folder, episodes):
        found.update(folder=folder, rows=sum(len(each.reward) for each in episodes))
        return []

    with patch.context() as patch:
        patch.setattr(wb.envs, "gym", make)
        patch.setattr(wb.replay, "write_npz", write)
        spy(patch, wb.envs.EnvVector, "__init__", envs)
        spy(patch, wb.evaluate, "random_policy", seeds)
        assert recipe.main(cfg) == 0
    assert envs[0]["seed"] == seeds[0]["seed"]
    return found | {"seed": envs[0]["seed"]}


def test_the_printed_option_can_be_pasted(tmp_path, capsys):
    folder = tmp_path / "two words"
    cfg = dataclasses.replace(TINY, make_data=str(folder), rows=40, env_args='{"cells": 3}')
    assert recipe.main(cfg) == 0
    assert re.search(rf"\d+ episodes; train .* with --data '{folder}'\n", capsys.readouterr().out)
