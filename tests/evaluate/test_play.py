"""Playing: episodes per environment, what is watched, and what is carried."""

import math

import numpy as np
import pytest
import torch

import worldblocks as wb
from worldblocks.evaluate import (
    AgentPolicy,
    Stopped,
    collect,
    play,
    random_policy,
    summary,
    verdict,
)


class Count:
    """Episodes of `length` steps, rewarded by the first number of the action."""

    def __init__(self, length, action=None):
        self.length, self.closed = length, False
        self.observation = {"time": wb.spaces.Continuous()}
        self.action = action or {"push": wb.spaces.Continuous((2,))}

    def row(self, reward):
        obs = {"time": np.float32(self.t)}
        return wb.envs.Step(obs, reward, self.t == 0, self.t == self.length, False)

    def reset(self, seed):
        self.t = 0
        return self.row(0.0)

    def step(self, action):
        self.t += 1
        return self.row(float(action["push"][0]))

    def get_state(self):
        return b""

    def close(self):
        self.closed = True


class Agent:
    def initial(self, n):
        return wb.rssm.Acting(torch.zeros(n), torch.zeros(n, 2))


def act(agent, obs, acting, is_first, mode=False):
    """Push a quarter more in each row; the mode pushes the other way."""
    action = (-1 if mode else 1) * (acting.prev_action.abs() + 0.25)
    return action, wb.rssm.Acting(acting.dynamics + 1, action)


def vector(*lengths):
    return wb.envs.EnvVector([Count(length) for length in lengths], seed=0)


def one(rows):
    return torch.ones(len(rows.reward), 2)


@pytest.mark.parametrize(
    ("episodes", "scores"), [(1, [1]), (2, [1, 6]), (3, [1, 1, 6]), (5, [1, 1, 1, 6, 6])]
)
def test_short_episodes_are_not_favoured(episodes, scores):
    """One environment has episodes six times shorter, and does not play more of them."""
    assert play(one, vector(1, 6), episodes) == scores


def test_an_agent_carries_from_row_to_row():
    policy = AgentPolicy(act, Agent(), 2)
    assert play(policy, vector(2, 2), 2) == [0.75, 0.75]
    assert policy.acting.dynamics.tolist() == [2, 2]
    assert play(AgentPolicy(act, Agent(), 2, mode=True), vector(2, 2), 2) == [-0.75, -0.75]


def test_every_row_is_watched_before_it_is_acted_on_and_the_last_one_too():
    seen, policy = [], AgentPolicy(act, Agent(), 1)

    def watch(rows, scores):
        seen.append((rows.obs["time"].item(), policy.acting.dynamics.item(), len(scores[0])))

    play(policy, vector(2), 2, watch=watch)
    assert seen == [(0, 0, 0), (1, 1, 0), (2, 2, 1), (0, 3, 1), (1, 4, 1), (2, 5, 2)]


def test_watch_may_stop_and_finished_episodes_count():
    envs = [Count(1), Count(3)]
    stop = lambda rows, scores: len(scores[0]) == 2  # noqa: E731
    assert play(one, wb.envs.EnvVector(envs, seed=0), 6, watch=stop) == [1, 1, 3]
    assert all(env.closed for env in envs)


def test_environments_that_fail_too_often_leave_the_scores(monkeypatch):
    late = property(lambda envs: "the wheel came off" if envs._taken > 3 else "")
    monkeypatch.setattr(wb.envs.EnvVector, "stopped", late)
    envs = [Count(1), Count(9)]
    with pytest.raises(Stopped, match="the wheel came off") as stopped:
        play(one, wb.envs.EnvVector(envs, seed=0), 9)
    assert stopped.value.scores == [1, 1]
    assert all(env.closed for env in envs)
    envs = [Count(1)]
    with pytest.raises(Stopped, match="the wheel came off"):
        collect(AgentPolicy(act, Agent(), 1), wb.envs.EnvVector(envs, seed=0), 9)
    assert envs[0].closed


def test_no_episode_is_a_sentence():
    with pytest.raises(ValueError, match="play was asked for 0 episodes; it takes at least one"):
        play(one, vector(1), 0)


def test_rows_are_stored_with_the_actions_that_led_to_them():
    batch = collect(AgentPolicy(act, Agent(), 2), vector(3, 3), 6)
    assert batch.obs["time"].tolist() == [[0, 1, 2, 3, 0, 1]] * 2
    assert batch.prev_action[0, :, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]
    paid = batch.reward == batch.prev_action[..., 0]
    assert (paid | batch.is_first).all()
    assert batch.carry is batch.row is None


def test_a_random_policy_is_uniform_and_seeded():
    kinds = {"a": {"push": wb.spaces.Continuous((5,))}, "b": {"press": wb.spaces.Discrete(4)}}
    for action in kinds.values():
        envs = wb.envs.EnvVector([Count(1, action)] * 500, seed=0)
        first, second = (random_policy(envs, 7)(None) for _ in range(2))
        assert torch.equal(first, second)
        if action is kinds["a"]:
            assert first.shape == (500, 5)
            assert first.abs().max() <= 1
            assert abs(first.mean()) < 0.05
    assert torch.equal(first.sum(1), torch.ones(500))
    assert (first.mean(0) - 0.25).abs().max() < 0.06


def test_the_interval_by_hand():
    """For 0, 2, 4, 6: mean 3, squared distances 9, 1, 1, 9, sample variance 20 / 3."""
    found = summary([0.0, 2.0, 4.0, 6.0])
    half = 1.96 * math.sqrt(20 / 3) / 2
    assert found["std"] == pytest.approx(math.sqrt(20 / 3))
    assert (found["low"], found["mean"], found["high"]) == pytest.approx((3 - half, 3, 3 + half))
    wider = summary([0.0, 2.0, 4.0, 6.0] * 25)
    assert wider["high"] - wider["mean"] == pytest.approx(half / 5, rel=0.15)
    assert summary([5.0]) == {"mean": 5.0, "std": 0.0, "episodes": 1}


def test_verdicts():
    scores = {"random": {"scores": [0.0, 10.0]}, "trained": {"scores": [9.0]}}
    failed = "walk: mean 9 of 1 episodes not > 9.5, the 95th percentile of 2 random ones"
    assert verdict({"walk": scores}) == f"FAIL  {failed}"
    assert verdict({"walk": scores}, gated=False) == f"INFO  {failed}"
