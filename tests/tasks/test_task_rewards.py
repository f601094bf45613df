"""Rewards from features against the simulator; principal axes; the picture."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import worldblocks as wb
from worldblocks.tasks import (
    control,
    control_reward,
    plot_tasks,
    principal_axes,
    tolerance,
)


def test_tolerance_by_hand():
    """1 inside, `value` at the margin, then linearly to 0; a Gaussian stays above 0."""
    x = torch.tensor([-1.0, 0.0, 1.5, 2.0, 3.0, 5.0])
    line = tolerance(x, 0.0, 2.0, margin=1.0, value=0.5, linear=True)
    assert line.tolist() == [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    curve = tolerance(x, 0.0, 2.0, margin=1.0)
    torch.testing.assert_close(curve, torch.tensor([0.1, 1.0, 1.0, 1.0, 0.1, 1e-9]))
    assert tolerance(x, 0.0, 2.0).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]


@given(st.floats(-5, 5), st.floats(0.1, 3), st.booleans())
def test_tolerance_is_symmetric_and_between_0_and_1(x, margin, linear):
    ours = tolerance(torch.tensor([x, -x]), -1.0, 1.0, margin=margin, linear=linear)
    assert ours[0] == ours[1]
    assert 0 <= ours[0] <= 1


def test_tolerance_compiles(same_when_compiled):
    same_when_compiled(
        lambda x: tolerance(x, 0.0, 2.0, margin=1.0, value=0.5, linear=True), torch.randn(3, 5)
    )


def test_unknown_rewards_are_none():
    assert control_reward("cartpole_swingup") is None


@pytest.mark.parametrize("task", ["reacher_easy", "reacher_hard", "walker_stand", "walker_run"])
def test_the_reward_is_that_of_the_simulator(task):
    """Summed over the control steps of an action, which the end of the episode may cut."""
    pytest.importorskip("dm_control", reason="needs the extra dmc")
    env, known = control(task, repeat=7), control_reward(task)
    random, steps = np.random.default_rng(0), [env.reset(1)]
    while not steps[-1].is_last:
        action = random.uniform(-1, 1, env.action["action"].shape)
        steps.append(env.step({"action": action.astype(np.float32)}))
    feature = {
        key.removeprefix("feat/"): torch.from_numpy(np.stack([step.obs[key] for step in steps]))
        for key in steps[0].obs
        if key.startswith("feat/")
    }
    body = wb.envs.BODIES.get(task.split("_")[0])
    assert set(feature) == {*known.features, "lived", *(body.features if body else ())}
    assert feature["lived"].sum(1)[[0, 1, -1]].tolist() == [0, 7, 1000 % 7]
    theirs = torch.tensor([step.reward for step in steps])
    torch.testing.assert_close(known.reward(feature), theirs, rtol=1e-5, atol=1e-5)


def test_features_that_the_physics_has_not():
    pytest.importorskip("dm_control", reason="needs the extra dmc")
    with pytest.raises(ValueError, match=r"no features \['mood'\]; its physics has \['finger"):
        wb.envs.dmc("reacher_easy", features=["mood"])


def test_without_features_nothing_is_added():
    pytest.importorskip("dm_control", reason="needs the extra dmc")
    keys = ["position", "to_target", "velocity"]
    assert sorted(control("reacher_easy", relabel=False).observation) == keys
    keys = ["position", "velocity"]
    assert sorted(control("cartpole_swingup", relabel=False).observation) == keys
    names = wb.envs.BODIES["cartpole"].features
    assert {*control("cartpole_swingup").observation} == {*keys, *(f"feat/{n}" for n in names)}


def test_principal_axes_against_the_covariance():
    x = torch.randn(30, 5) @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1]))
    points, share = principal_axes(x, 2)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    centred = (x - x.mean(0)) @ vectors.flip(1)[:, :2]
    torch.testing.assert_close(points.abs(), centred.abs(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(share, values.flip(0)[:2] / values.sum())


@given(st.floats(-9, 9), st.integers(0, 50))
def test_principal_axes_do_not_care_where_points_are(offset, seed):
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        principal_axes(x + offset)[0], principal_axes(x)[0], rtol=1e-3, atol=1e-4
    )


def test_axes_that_are_not_there():
    with pytest.raises(ValueError, match="requested 3 principal axes of 2 points of 4 numbers"):
        principal_axes(torch.zeros(2, 4), 3)


def test_the_picture_of_a_run(tmp_path):
    """The picture of a new run, and of a judged one."""
    pytest.importorskip("matplotlib", reason="needs the extra run")
    assert plot_tasks(tmp_path).stat().st_size > 0
    (tmp_path / "config.json").write_text(json.dumps({"repeat": 2}))
    sink = wb.run.JsonlSink(tmp_path / "episodes.jsonl")
    for step in range(3):
        sink.write(step, {"score": 1.0 * step, "length": 5, "task": "walk"})
    sink.close()
    scores = {"random": {"scores": [1.0, 2.0]}, "trained": {"scores": [3.0, 5.0]}}
    (tmp_path / "scores.json").write_text(json.dumps({"walk": scores, "run": scores}))
    latents = {"walk": torch.randn(9, 4), "run": torch.randn(7, 4)}
    assert plot_tasks(tmp_path, latents=latents, title="two").stat().st_size > 0
