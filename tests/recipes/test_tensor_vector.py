"""A vector whose environments are tensors from the beginning, in a recipe's `main`."""

import dataclasses

import tiny_runs
import torch

import dreamerv3_gym as recipe
import worldblocks as wb
from worldblocks.envs import Episode, Rows
from worldblocks.spaces import Continuous, Discrete

CFG = dataclasses.replace(recipe.PRESETS["smoke"], envs=3, steps=240, log_every=60, save_every=120)


class Counting:
    """Counters that one of two actions advances, rewarded at 3; an episode has at most 6 steps."""

    observation, action = {"count": Continuous((1,))}, {"action": Discrete(2)}
    stopped, failures = "", ()

    def __init__(self, count):
        self._zeros = torch.zeros(count)
        self.rows, self.finished = None, []

    def __len__(self):
        return len(self._zeros)

    def reset(self):
        self._count = self._time = self._score = self._zeros
        return self._row(torch.stack([self._zeros] * 2, -1), self._zeros, self._zeros == 0)

    def step(self, action):
        self.send(action)
        return self.receive()

    def send(self, action):
        self._sent = action.to(self._zeros.device, copy=True)

    def receive(self):
        goes_on = (~self.rows.is_last).float()
        self._time = goes_on * (self._time + 1)
        self._count = goes_on * (self._count + self._sent[:, 1])
        reward = goes_on * (self._count == 3)
        self._score = goes_on * self._score + reward
        return self._row(self._sent, reward, goes_on == 0)

    def _row(self, action, reward, is_first):
        won, obs = reward > 0, {"count": self._count[:, None]}
        self.rows = Rows(obs, action, reward, is_first, won | (self._time == 6), won)
        ended = zip(self.rows.is_last, self._score, self._time, strict=True)
        self.finished = [Episode(i, s.item(), int(t)) for i, (x, s, t) in enumerate(ended) if x]
        return self.rows

    def state_dict(self):
        return {**self.rows._asdict(), "own": [self._count, self._time, self._score]}

    def load_state_dict(self, state):
        state = dict(state)
        self._count, self._time, self._score = state.pop("own")
        self.rows = Rows(**state)
        return self.rows

    def close(self):
        pass


def test_a_recipe_needs_no_more_of_a_vector(tmp_path, monkeypatch):
    """It trains, resumes exactly, plays and collects rows."""
    monkeypatch.setattr(recipe, "environments", lambda cfg, n, seed: Counting(n))
    whole = tiny_runs.run(recipe, CFG, tmp_path / "whole")
    part = tiny_runs.run(recipe, CFG, tmp_path / "part", steps=120)
    tiny_runs.run(recipe, CFG, part, resume=True)
    tiny_runs.same_run(whole, part)
    episodes = wb.run.read_jsonl(whole / "episodes.jsonl")
    assert {episode["score"] for episode in episodes} == {0.0, 1.0}
    assert max(episode["length"] for episode in episodes) == 6
    agent, _ = recipe.load(whole)
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, 3)
    assert len(wb.evaluate.play(policy, Counting(3), 5)) == 5
    batch = wb.evaluate.collect(policy, Counting(3), 20)
    counted = batch.obs["count"][:, 1:, 0] - batch.obs["count"][:, :-1, 0]
    inside = ~batch.is_first[:, 1:]
    assert torch.equal(counted[inside], batch.prev_action[:, 1:, 1][inside])
    random = wb.evaluate.random_policy(Counting(3), seed=0)
    assert len(wb.evaluate.play(random, Counting(3), 5)) == 5
