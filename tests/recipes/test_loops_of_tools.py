"""Loops that start from a run, or have no world model: adapt, instruct, vae, glam_policy."""

import dataclasses
import json
import math

import pytest
import torch
from loop_table import LOOPS
from recorded_runs import Recording, check_carries, recorded

import adapt
import glam_policy
import instruct
import multitask_dmc
import vae

BASE_TASKS, NEW = ("reacher_easy", "cartpole_balance"), "reacher_hard"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run of two tasks with an action repeat of 5, 26 actions each."""
    folder = tmp_path_factory.mktemp("runs") / "world"
    cfg = dataclasses.replace(LOOPS["multitask_dmc"].cfg, tasks=BASE_TASKS, repeat=5)
    run = recorded(multitask_dmc, cfg, folder)
    return folder, {event.seed for event in run.named("reset")}


def called(module, cfg, *others):
    """A recording of a tool's `main`."""
    recording = Recording()
    with pytest.MonkeyPatch.context() as patch:
        recording.patch(patch, module, *others)
        assert module.main(cfg) == 0
    return recording


# ------------------------------------------------------------------ adapt


ADAPT = {"task": NEW, "marks": (0, 20, 95), "before": 2, "episodes": 3}


@pytest.fixture(scope="module")
def adapted(world, tmp_path_factory):
    logdir = tmp_path_factory.mktemp("adapted")
    cfg = adapt.Config(run=world[0], logdir=str(logdir), **ADAPT)
    return called(adapt, cfg, multitask_dmc), logdir


def turns(run):
    """The events of training; the training vector is opened first."""
    training = run.named("open")[0].envs
    names = []
    for event in run.events:
        if event.name == "open" and event.envs is not training:
            names.append("judge")
        elif getattr(event, "envs", training) is not training:
            continue
        elif event.name in ("add", "send", "receive", "sample", "write_back"):
            names.append(event.name)
        elif event.name == "update" and event.of == "adapt":
            names.append("update")
    return names


def test_marks_of_adapt_are_real_steps_and_evaluated_when_reached(adapted):
    """2 environments and a repeat of 5 make 10 real steps a turn.

    A window has 5 rows with its context, so updates begin in turn 5, after 10 actions. From there
    1 + floor((actions - 10) / 3) are due in all: 1, 1, 2, 3, 3, 4 in turns 5 to 10.
    """
    turn, learn = ["add", "send", "receive"], ["sample", "update", "write_back"]
    expected = ["sample", "sample", "update"] * 2  # both base tasks, before the first real step
    expected += ["judge"] + turn * 2 + ["judge"] + turn * 2
    for updates in (1, 0, 1, 1, 0, 1):
        expected += turn + learn * updates
    assert turns(adapted[0]) == [*expected, "judge"]
    result = json.loads((adapted[1] / "result.json").read_text())
    assert [one["step"] for one in result["evaluations"]] == [0, 20, 95]


def test_adapt_evaluates_on_episodes_of_its_own(adapted, world):
    run, _ = adapted
    training = run.named("open")[0].envs
    seeds = {True: set(), False: set()}
    for event in run.named("reset"):
        seeds[event.toy.home is training].add(event.seed)
    assert len(seeds[True]) >= 4
    assert len(seeds[False]) >= 3
    assert not seeds[False] & (seeds[True] | world[1])
    opened = [event for event in run.named("open") if event.envs is not training]
    assert [event.n for event in opened] == [3, 3, 3]
    assert len({event.seed for event in opened}) == 1, "each evaluation plays the same episodes"


def test_the_score_of_a_mark_is_that_of_its_episodes(adapted):
    run, logdir = adapted
    training, scores = run.named("open")[0].envs, []
    for event in run.named("open", "receive"):
        if event.name == "open" and event.envs is not training:
            scores.append({})
        elif event.name == "receive" and event.envs is not training:
            for env, score, _ in event.finished:
                scores[-1].setdefault(env, score)
    found = json.loads((logdir / "result.json").read_text())["evaluations"]
    for own, one in zip(scores, found, strict=True):
        assert one["scores"] == [own[env] for env in range(3)]
        assert one["mean"] == pytest.approx(sum(own.values()) / 3)


def test_an_evaluation_takes_no_random_numbers_from_the_run(adapted):
    """Evaluations before turns 1 and 3 start with the random state of that turn."""
    at_once, training, later, _ = adapted[0].streams()
    for judged, turn in ((at_once, 0), (later, 2)):
        assert torch.equal(judged[0][1].rng, training[turn][1].rng)


def test_adapt_learns_the_reward_of_the_new_task(adapted):
    """The distance grows by 0.02 a step: within reacher_hard's 0.025 in rows 0 and 1."""
    inner = [event for event in adapted[0].named("update") if event.of == "multitask_dmc"]
    assert len(inner) == 2 + 4
    for i, update in enumerate(inner):
        mixture = update.args[2]
        assert len(mixture.reward) == 1
        near = mixture.feature["finger_to_target_dist"][..., 0] < 0.025
        paid = (near & ~mixture.batch.is_first).float() * mixture.feature["lived"][..., 0]
        assert torch.equal(mixture.reward[0], paid)
        assert {*mixture.task.tolist()} == ({-1} if i < 2 else {0})


def test_adapt_acts_on_its_own_carry_and_action(adapted):
    [turns] = [own for own in adapted[0].streams() if len(own) == 10]  # the others are evaluations
    check_carries(turns)
    assert all(act.weights and act.agent.training for _, act, *_ in turns)
    assert len({bytes(act.rng.numpy()) for _, act, *_ in turns}) == 10


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"world": "fresh"}, [0, 1, 0, 1, 1, 0, 1]),  # no old replay
        ({"train_ratio": 12.0, "world": "fresh"}, [0, 1, 2, 2, 2, 2, 2]),  # an update an action
        ({"before": 4, "marks": (0,)}, [4]),
    ],
    ids=str,
)
def test_updates_of_adapt(world, tmp_path, changes, counts):
    given = {**ADAPT, "marks": (95,), "episodes": 1, **changes}
    run = called(adapt, adapt.Config(run=world[0], logdir=str(tmp_path), **given))
    made = [0]
    training = run.named("open")[0].envs
    for event in run.named("update", "send"):
        made += [0] if event.name == "send" and event.envs is training else []
        made[-1] += event.name == "update"
    assert [made[0], *made[5:]] == counts


# ------------------------------------------------------------------ instruct


def test_instruct_fits_settles_learns_and_only_then_plays(world, tmp_path):
    given = {"by": "oracle", "instruction": "balance the pole upright"}
    counts = {"fit": 2, "updates": 3, "settle": 1, "episodes": 2, "random": 3}
    run = recorded(multitask_dmc, _cartpole(), tmp_path / "world")
    cfg = instruct.Config(run=tmp_path / "world", logdir=str(tmp_path), **given, **counts)
    tool = called(instruct, cfg)
    updates = tool.named("update")
    assert [event.args[-1] for event in updates] == [0, 1, 2, 3, 4]
    moved = [{name for name in e.after if _moved(e, name)} for e in updates]
    assert [any(".actor." in name for name in names) for names in moved] == [False] * 3 + [True] * 2
    assert [any(".value." in name for name in names) for names in moved] == [False] * 2 + [True] * 3
    names = tool.names("update", "open")
    assert names == ["update"] * 5 + ["open"] * 3  # random, the phrase, the head of the run
    assert [event.n for event in tool.named("open")] == [3, 2, 2]
    assert len({event.seed for event in tool.named("open")}) == 1
    trained = {event.seed for event in run.named("reset")}
    judged = {event.seed for event in tool.named("reset")}
    assert not trained & judged
    rng = {bytes(event.rng.numpy()) for event in updates}
    assert len(rng) == 5


def _cartpole():
    return dataclasses.replace(LOOPS["multitask_dmc"].cfg, tasks=("cartpole_balance",), steps=24)


def _moved(event, name):
    return not torch.equal(event.before[name], event.after[name])


# ------------------------------------------------------------------ vae


VAE = dataclasses.replace(
    vae.PRESETS["smoke"],
    steps=7,
    frames=20,
    held_out=6,
    latent=3,
    batch=4,
    warmup=0,
    log_every=3,
    save_every=4,
)


def test_a_vae_never_learns_from_held_out_frames(tmp_path, monkeypatch):
    collected = []
    collect = vae.collect
    monkeypatch.setattr(
        vae, "collect", lambda *args: collected.append(collect(*args)) or collected[-1]
    )
    run = recorded(vae, VAE, tmp_path / "run", image=True)
    [frames] = collected
    frame = lambda x: bytes(x.numpy())  # noqa: E731
    ours, held_out = {*map(frame, frames[:20])}, [*map(frame, frames[20:])]
    assert len(ours) == 20
    assert not ours & set(held_out)
    seen = [frame(x) for event in run.named("update") for x in event.args[2]]
    assert len(seen) == 7 * 4
    assert set(seen) <= ours
    assert len(set(seen)) > 10, "drawn anew for each update"
    for event in run.named("judge"):
        assert [frame(x) for x in event.args[1]] == held_out
    names = run.names("update", "judge", "log", "save")
    three, judged = ["update"] * 3, ["judge", "log"]
    assert names == [
        *three,
        *judged,
        "update",
        "save",
        *three[1:],
        *judged,
        "update",
        "save",
        "judge",
    ]
    line = run.named("log")[-1]
    result = run.named("judge")[1].result
    assert {name: line.figures[name] for name in result} == pytest.approx(
        {name: value.item() for name, value in result.items()}
    )
    assert [event.step for event in run.named("log")] == [3, 6]
    assert [event.position["step"] for event in run.named("save")] == [4, 7]
    assert len({bytes(event.rng.numpy()) for event in run.named("update")}) == 7


def test_two_seeds_have_different_frames(tmp_path):
    short = dataclasses.replace(VAE, steps=1)
    seeds = []
    for seed in (0, 1):
        run = recorded(vae, dataclasses.replace(short, seed=seed), tmp_path / str(seed), image=True)
        seeds.append({event.seed for event in run.named("reset")})
    assert not seeds[0] & seeds[1]


# ------------------------------------------------------------------ glam_policy


def test_every_real_row_of_a_rollout_is_learned_from_once_an_epoch(tmp_path):
    """Three rollouts of 3 actions in 2 environments, 2 epochs of batches of 4 rows."""
    pytest.importorskip("peft", reason="needs the extra llm")
    changes = {"steps": 18, "rollout": 3, "epochs": 2, "batch": 4, "log_every": 7, "save_every": 11}
    cfg = dataclasses.replace(glam_policy.PRESETS["smoke"], **changes)
    run = recorded(glam_policy, cfg, tmp_path / "run")
    rows, names, parts = run.named("begin")[0].rows, [], []
    counts, real = [], 0
    for event in run.named("send", "receive", "update", "log", "save"):
        if event.name == "send":
            real += int((~rows.is_last).sum())
        elif event.name == "receive":
            rows = event.rows
        elif event.name == "update":
            parts.append(event.args[2])
        names.append(event.name)
        if names[-3:] == ["send", "receive", "update"]:
            counts.append(real)
            real = 0
    assert len(counts) == 3
    expected = []
    for rollout, count in enumerate(counts, 1):
        expected += ["send", "receive"] * 3 + ["update"] * 2 * math.ceil(count / 4)
        expected += ["log"] * (rollout in (2, 3))  # from 7 and from 14 actions on
        expected += ["save"] * (rollout == 2)  # from 11 actions on
    assert names == [*expected, "save"]
    for count in counts:
        for _ in range(2):
            epoch = [parts.pop(0) for _ in range(math.ceil(count / 4))]
            assert sum(len(part.target) for part in epoch) == count
            assert len({text for part in epoch for text in part.prompt}) == count, "each row once"
    assert not parts
    assert len({bytes(event.rng.numpy()) for event in run.named("send")}) == 9
    assert len({bytes(event.rng.numpy()) for event in run.named("update")}) >= 6
