"""Faults of environments, and of vectors of them that reset by themselves."""

import numpy as np
import torch

from worldblocks.envs import EnvVector
from worldblocks.spaces import Continuous, Discrete
from worldblocks.testing.worlds.base import World

from .mutant import mutant

LIMIT = 5


class Walk(World):
    """Walk on a line from a random place; the far end is terminal, row `LIMIT` a time limit."""

    def __init__(self):
        super().__init__({"place": Continuous((2,))}, {"move": Discrete(3)})

    def _begin(self):
        self._place = self._random.normal(size=2).astype(np.float32)

    def _observe(self):
        return {"place": self._place.copy()}

    def _act(self, action):
        noise = self._random.normal(size=2).astype(np.float32)
        self._place = self._place + noise + np.float32(action - 1)
        there = bool(self._place[0] > 2)
        return float(self._place[0]), there or self._time + 1 == LIMIT, there


@mutant("environment", "the time limit is flagged as an end")
class time_limit_as_an_end(Walk):
    def step(self, action):
        step = super().step(action)
        return step._replace(is_terminal=step.is_last)


@mutant("environment", "an end is flagged as terminal, and the episode goes on")
class terminal_without_last(Walk):
    def step(self, action):
        step = super().step(action)
        return step._replace(is_last=step.is_last and not step.is_terminal)


@mutant("environment", "the first row is not flagged")
class first_row_not_flagged(Walk):
    def reset(self, seed):
        return super().reset(seed)._replace(is_first=False)


@mutant("environment", "is_first stands on the row after the first")
class first_flag_late(Walk):
    def reset(self, seed):
        return super().reset(seed)._replace(is_first=False)

    def step(self, action):
        first = self._time == 0
        return super().step(action)._replace(is_first=first)


@mutant("environment", "the first row has the last reward of the episode before")
class reward_survives_the_reset(Walk):
    last = 0.0

    def reset(self, seed):
        return super().reset(seed)._replace(reward=self.last)

    def step(self, action):
        step = super().step(action)
        self.last = step.reward
        return step


@mutant("environment", "the seed of a reset is ignored")
class seed_ignored(Walk):
    episodes = 0

    def reset(self, seed):
        type(self).episodes += 1
        return super().reset(type(self).episodes)


@mutant("environment", "noise comes from a generator that no reset seeds")
class noise_not_seeded(Walk):
    shared = np.random.default_rng(0)

    def _act(self, action):
        self._place = self._place + self.shared.normal(size=2).astype(np.float32)
        return super()._act(action)


@mutant("environment", "the observation is the same array every time, written again")
class observation_memory_used_again(Walk):
    def _observe(self):
        if not hasattr(self, "memory"):
            self.memory = np.zeros(2, np.float32)
        self.memory[:] = self._place
        return {"place": self.memory}


@mutant("environment", "observations are float64, the space says float32")
class observation_of_another_dtype(Walk):
    def _observe(self):
        return {"place": self._place.astype(np.float64)}


@mutant("environment", "a key that the space does not have")
class unknown_observation(Walk):
    def _observe(self):
        return {"place": self._place.copy(), "time": np.asarray(self._time)}


@mutant("environment", "the time limit is not kept: the episode is a row longer")
class episode_too_long(Walk):
    def _act(self, action):
        reward, _, there = super()._act(action)
        return reward, there or self._time == LIMIT, there


@mutant("environment", "the action is not done")
class action_not_done(Walk):
    def _act(self, action):
        return super()._act(np.asarray(1))


class Changed(EnvVector):
    """A vector whose rows are changed on their way out."""

    def change(self, before, rows):
        return rows

    def step(self, action):
        before = self.rows
        return self.change(before, super().step(action))


@mutant("vector", "an episode that ends is reset at once: its last observation is never seen")
class last_observation_skipped(EnvVector):
    def step(self, action):
        rows = super().step(action)
        if not rows.is_last.any():
            return rows
        after = super().step(torch.zeros_like(action))
        obs = {key: rows.obs[key].clone() for key in rows.obs}
        for key in obs:
            obs[key][rows.is_last] = after.obs[key][rows.is_last]
        return rows._replace(obs=obs)


@mutant("vector", "the row of a reset is not flagged")
class reset_row_not_flagged(Changed):
    def change(self, before, rows):
        return rows._replace(is_first=rows.is_first & ~before.is_last)


@mutant("vector", "the row of a reset repeats the last reward")
class reset_row_with_a_reward(Changed):
    def change(self, before, rows):
        return rows._replace(reward=torch.where(rows.is_first, before.reward, rows.reward))


@mutant("vector", "one episode's end resets all environments")
class everyone_reset(EnvVector):
    def step(self, action):
        if self.rows.is_last.any():
            return self.reset()
        return super().step(action)


@mutant("vector", "every time limit is flagged as terminal")
class vector_takes_limits_for_ends(Changed):
    def change(self, before, rows):
        return rows._replace(is_terminal=rows.is_last.clone())


@mutant("vector", "the action of one environment goes to another")
class actions_to_the_neighbour(EnvVector):
    def step(self, action):
        return super().step(action.roll(1, 0))


@mutant("vector", "prev_action is the action before the one that led to a row")
class action_one_row_late(EnvVector):
    def step(self, action):
        before = self.__dict__.get("given", torch.zeros_like(action))
        self.given = action
        return super().step(action)._replace(prev_action=before)


@mutant("vector", "prev_action of a reset is zeros, not the action that was ignored")
class ignored_action_hidden(Changed):
    def change(self, before, rows):
        led = torch.where(rows.is_first[:, None], 0.0, rows.prev_action)
        return rows._replace(prev_action=led)


@mutant("vector", "prev_action is the memory of the caller")
class action_not_copied(EnvVector):
    def step(self, action):
        return super().step(action)._replace(prev_action=action)


@mutant("vector", "rewards are clipped to [-1, 1] without a word")
class rewards_clipped(Changed):
    def change(self, before, rows):
        return rows._replace(reward=rows.reward.clamp(-1, 1))


@mutant("vector", "all environments play the same episodes")
class seeds_shared(EnvVector):
    def __init__(self, environments, *, seed, **options):
        super().__init__(environments, seed=seed, **options)
        for slot in self._slots:
            slot._index = 0


@mutant("vector", "the episodes after the first begin with the same seed again")
class same_episode_again(EnvVector):
    def step(self, action):
        for slot, over in zip(self._slots, self.rows.is_last.tolist(), strict=True):
            slot.episode -= int(over)
        return super().step(action)


@mutant("vector", "rows are written into the tensors of the rows before")
class rows_in_the_same_memory(EnvVector):
    def step(self, action):
        before = self.rows
        rows = super().step(action)
        for key in rows.obs:
            before.obs[key].copy_(rows.obs[key])
        return rows
