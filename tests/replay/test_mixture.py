"""The replay of several tasks: the task of each window, and its known rewards."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.replay import MixtureReplay, OnlineFirst, Relabel, SequenceReplay, Uniform

SIZES = {"capacity": 60, "streams": 2, "length": 3}


def row(t, value=0.0, first=False, **obs):
    flag = torch.zeros(2, dtype=torch.bool)
    return {
        "obs": {"count": torch.full((2, 1), float(t)), **obs},
        "prev_action": torch.zeros(2, 5),
        "reward": torch.full((2,), value + t),
        "is_first": torch.full((2,), first),
        "is_last": flag,
        "is_terminal": flag,
        "carry": {"deter": torch.full((2, 7), float(t))},
    }


def filled(tasks=("walk", "run"), rows=12, relabel=None, feature=False, **options):
    replay = MixtureReplay(tasks, relabel=relabel, **SIZES, **options)
    for place, task in enumerate(tasks):
        for t in range(rows):
            more = {"feat/speed": torch.full((2, 2), float(t + 1))} if feature else {}
            replay.add(task, **row(t, 100.0 * place, first=t == 0, **more))
    return replay


def test_windows_of_two_tasks_by_hand():
    """Task 1 has rewards from 100 on; unknown rewards of the other task are 0."""
    mixture = filled().sample({"walk": 1, "run": 2})
    assert mixture.task.tolist() == [0, 1, 1]
    assert mixture.batch.reward[:, 0].tolist() == [2.0, 102.0, 102.0]  # row 1 is context
    assert mixture.reward.shape == mixture.known.shape == (2, 3, 3)
    assert mixture.known[:, :, 0].tolist() == [[True, False, False], [False, True, True]]
    assert mixture.reward[0, :, 0].tolist() == [2.0, 0.0, 0.0]
    assert mixture.reward[1, :, 0].tolist() == [0.0, 102.0, 102.0]
    assert mixture.batch.carry["deter"].shape == (3, 7)
    assert mixture.feature == {}


def test_labels_are_rewards_and_no_observations():
    replay = MixtureReplay(("walk", "run"), **SIZES)
    for t in range(8):
        label = {"reward/run": torch.full((2,), 0.5 * t)}
        replay.add("walk", **row(t, **label))
        replay.add("run", **row(t))
    mixture = replay.sample({"walk": 2, "run": 1})
    assert list(mixture.batch.obs) == ["count"]
    assert mixture.known[1].all()
    assert mixture.reward[1, 0].tolist() == [1.0, 1.5, 2.0]
    assert not mixture.known[0, 2].any()


def test_a_reward_that_is_a_function_of_features_is_known_everywhere():
    """It is 0 at the first row of an episode, and replaces the reward of the environment."""
    double = Relabel(("speed",), lambda feature: 2 * feature["speed"].sum(-1))
    replay = filled(relabel={"run": double, "walk": None}, feature=True)
    mixture = replay.sample({"walk": 2})
    assert list(mixture.batch.obs) == ["count"]
    assert mixture.feature["speed"].shape == (2, 3, 2)
    assert mixture.known.all()
    assert mixture.reward[1, 0].tolist() == [12.0, 16.0, 20.0]
    assert mixture.reward[0, 0].tolist() == [2.0, 3.0, 4.0]
    opening = MixtureReplay(("run",), relabel={"run": double}, context=0, **SIZES)
    for t in range(4):
        opening.add("run", **row(t, first=True, **{"feat/speed": torch.ones(2, 2)}))
    assert opening.sample({"run": 1}).reward.abs().sum() == 0


def test_a_row_without_the_features_keeps_its_own_reward():
    replay = filled(relabel={"run": Relabel(("height",), lambda _: 1 / 0)}, feature=True)
    mixture = replay.sample({"walk": 1, "run": 1})
    assert mixture.known[1].tolist() == [[False] * 3, [True] * 3]


def test_features_that_only_some_tasks_have_are_left_out():
    replay = MixtureReplay(("walk", "run"), **SIZES)
    for t in range(6):
        replay.add("walk", **row(t, **{"feat/speed": torch.ones(2, 2)}))
        replay.add("run", **row(t))
    assert list(replay.sample({"walk": 1}).feature) == ["speed"]
    assert replay.sample({"walk": 1, "run": 1}).feature == {}


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 99))
def test_each_part_is_what_the_task_s_own_replay_gives(walk, run, seed):
    """The oracle: two separate replays, sampled one after the other."""
    if not walk + run:
        return
    ours, theirs = filled(seed=seed), filled(seed=seed)
    mixture = ours.sample({"run": run, "walk": walk})
    parts = [theirs[k].sample(n) for k, n in (("walk", walk), ("run", run)) if n]
    assert torch.equal(mixture.batch.reward, torch.cat([part.reward for part in parts]))
    assert torch.equal(mixture.batch.row, torch.cat([part.row for part in parts]))


def test_tasks_draw_windows_of_their_own():
    """They depend on the seed and the task, not on the other tasks."""
    mixture = filled(rows=30).sample({"walk": 20, "run": 20})
    walk, run = mixture.batch.row[:, 0].split(20)
    assert not torch.equal(walk, run)
    turned = filled(("run", "walk"), rows=30).sample({"walk": 20, "run": 20})
    assert torch.equal(turned.batch.row[turned.task == 1, 0], walk)
    another = filled(rows=30, seed=1).sample({"walk": 20})
    assert not torch.equal(another.batch.row[:, 0], walk)


def test_write_back_reaches_the_rows_of_each_task():
    replay = filled()
    mixture = replay.sample({"walk": 1, "run": 1})
    new = torch.arange(2 * 3 * 7).float().view(2, 3, 7)
    replay.write_back(mixture, {"deter": new})
    for place, task in enumerate(("walk", "run")):
        batch = replay[task].sample(40)
        row_of = mixture.batch.row[place, 0]
        chosen = batch.row[:, 0] - 2 == row_of  # the row before is its context; 2 streams
        assert chosen.any()
        assert (batch.carry["deter"][chosen] == new[place, 0]).all()


def test_a_task_that_joins_or_leaves_changes_no_draw_of_the_others():
    plain, changed = filled(), filled()
    changed.add_task("stand")
    for t in range(6):
        changed.add("stand", **row(t))
    assert changed.sample({"stand": 1}).task.tolist() == [2]
    changed.remove_task("walk")
    assert changed.tasks == ["run", "stand"]
    ours, theirs = changed.sample({"run": 5}), plain.sample({"run": 5})
    assert torch.equal(ours.batch.row, theirs.batch.row)


def test_saved_and_loaded_it_goes_on_with_the_tasks_that_are_there(tmp_path):
    replay = filled()
    replay.sample({"walk": 2, "run": 2})
    manifest = replay.save(tmp_path)
    assert {name.split("/")[0] for name in manifest["files"]} == {"walk", "run"}
    assert all((tmp_path / name).exists() for name in manifest["files"])
    again = MixtureReplay(("run", "stand"), seed=0, **SIZES)
    again.load(tmp_path, manifest)
    assert len(again) == 0  # of the task with the fewest
    ours, theirs = again.sample({"run": 4}), replay.sample({"run": 4})
    assert torch.equal(ours.batch.row, theirs.batch.row)
    assert torch.equal(ours.batch.reward, theirs.batch.reward)


def test_moved_it_keeps_rows_in_host_memory():
    mixture = filled().sample({"walk": 1}).to("meta")
    assert mixture.batch.row.device.type == "cpu"
    assert {x.device.type for x in mixture[1:4]} == {mixture.batch.reward.device.type} == {"meta"}


def test_its_length_is_that_of_the_shortest():
    assert len(MixtureReplay((), **SIZES)) == 0
    replay = filled()
    replay.add_task("stand")
    assert (len(filled()), len(replay)) == (len(filled()["walk"]), 0)
    assert isinstance(replay["stand"], SequenceReplay)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a\\b"])
def test_names_that_are_no_folders(name):
    with pytest.raises(ValueError, match="cannot be the name of a task, because its rows are sav"):
        MixtureReplay((name,), **SIZES)


def test_messages():
    replay = filled()
    with pytest.raises(ValueError, match="already has a task 'walk'; use another name"):
        replay.add_task("walk")
    with pytest.raises(KeyError, match=r"no tasks \['fly'\]; it has \['walk', 'run'\]"):
        replay.remove_task("fly")
    with pytest.raises(KeyError, match=r"no tasks \['fly'\]; it has \['walk', 'run'\]"):
        replay.sample({"fly": 1})
    with pytest.raises(ValueError, match=r"counts=\{'walk': 0\} has no windows; use at least one"):
        replay.sample({"walk": 0})
    mixture = replay.sample({"walk": 1})
    nowhere = mixture._replace(batch=mixture.batch._replace(row=None))
    with pytest.raises(ValueError, match="write_back needs rows from a replay"):
        replay.write_back(nowhere, mixture.batch.carry)


@pytest.mark.parametrize("tasks", [("walk", "run"), ("run", "walk")])
def test_windows_of_a_task_without_weights_have_weight_one(tasks):
    class Halves(Uniform):
        def draw(self, size, window, stored):
            return super().draw(size, window, stored)._replace(weight=np.full(size, 0.5))

    replay = filled(tasks, rows=7, selector=lambda seed: OnlineFirst(Halves(seed)))
    replay["walk"].sample(2)  # its queue of two windows is empty, that of the other task is not
    weight = replay.sample({"walk": 1, "run": 2}).batch.weight[:, 0]
    assert sorted(weight.tolist()) == [0.5, 1.0, 1.0]
