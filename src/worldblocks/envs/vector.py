"""Several environments in lockstep, one row of each at a time."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from worldblocks.envs.record import Environment, NotRestored, Rows, Step
from worldblocks.envs.reenact import ActionLog, reenact
from worldblocks.spaces import Continuous, Discrete, action_size, split_action

_FLAGS = ("is_first", "is_last", "is_terminal")


class Episode(NamedTuple):
    """A finished episode: its environment, the sum of its rewards, its number of actions."""

    env: int
    score: float
    length: int


class EnvVector:
    """Environments stepped in lockstep in this process; each resets by itself.

    Where the last row was `is_last`, the next `step` ignores the action and resets: the row it
    gives is `is_first` with reward 0. So no observation is skipped, and rows stay aligned.

    Episode k of environment i is reset with a seed derived from (`seed`, i, k).

    Args:
        environments: at least one, all with the same spaces.
        seed: the run's seed, 0 or more.
    """

    def __init__(self, environments: Sequence[Environment], *, seed: int) -> None:
        if not environments:
            raise ValueError("EnvVector got no environment; give it one or more")
        if seed < 0:
            raise ValueError(f"EnvVector got seed={seed}; it takes 0 or more")
        self.observation, self.action = environments[0].observation, environments[0].action
        for i, environment in enumerate(environments):
            given = (dict(environment.observation), dict(environment.action))
            if given != (dict(self.observation), dict(self.action)):
                raise ValueError(
                    f"environment {i} has observation {given[0]} and action {given[1]}, "
                    f"environment 0 has {dict(self.observation)} and {dict(self.action)}; "
                    f"the environments of one EnvVector have the same"
                )
        self.finished: list[Episode] = []
        self._environments, self._seed = list(environments), seed
        self._size, self._taken = action_size(self.action), 0
        count = len(self._environments)
        self._episodes, self._scores, self._lengths = [-1] * count, [0.0] * count, [0] * count
        self._logs: list[ActionLog | None] = [None] * count
        self._rows: Rows | None = None

    def __len__(self) -> int:
        return len(self._environments)

    @property
    def rows(self) -> Rows:
        """The rows returned last, by `reset`, `step` or `load_state_dict`."""
        if self._rows is None:
            raise ValueError("EnvVector has no rows before reset(); call reset() first")
        return self._rows

    def reset(self) -> Rows:
        """Begin a new episode in every environment."""
        steps = [self._reset(i) for i in range(len(self))]
        for i, environment in enumerate(self._environments):
            self._logs[i] = ActionLog(self._size) if environment.get_state() is None else None
        return self._collect(steps)

    def step(self, action: Float32[Tensor, "env action"]) -> Rows:
        """Do one flat action in each environment; those whose row was the last reset instead."""
        if self._rows is None:
            raise ValueError("EnvVector was asked for a step before reset(); call reset() first")
        if action.shape != (len(self), self._size) or action.dtype != torch.float32:
            raise ValueError(
                f"EnvVector got actions {_describe(action)}; its {len(self)} environments take "
                f"float32[{len(self)}, {self._size}]"
            )
        vectors = action.detach().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ValueError("EnvVector got an action with NaN or inf; it takes finite numbers")
        ended = self._rows.is_last.tolist()
        steps = [
            self._reset(i) if ended[i] else self._act(i, vector) for i, vector in enumerate(vectors)
        ]
        return self._collect(steps)

    def state_dict(self) -> dict[str, Any]:
        """Where every environment is, in plain numbers, lists, bytes and tensors."""
        if self._rows is None:
            raise ValueError("EnvVector has no state before reset(); call reset() first")
        rows = self._rows
        return {
            "seed": self._seed,
            "taken": self._taken,
            "episodes": list(self._episodes),
            "scores": list(self._scores),
            "lengths": list(self._lengths),
            "rows": {**rows._asdict(), "obs": dict(rows.obs)},
            "environments": [environment.get_state() for environment in self._environments],
            "actions": [
                None if log is None else torch.from_numpy(log.rows()) for log in self._logs
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Rows:
        """Continue from `state_dict()`, the seed included; gives the rows returned last.

        An environment without a state of its own re-enacts its episode. If one does not come back
        to its last row, a warning says so, the row is returned with `is_last` (not terminal) and
        the next step resets: the episode counts as abandoned and is not among the finished.
        """
        rows = Rows(**{**state["rows"], "obs": dict(state["rows"]["obs"])})
        self._check_layout(rows)
        self._seed, self._taken, self.finished = state["seed"], state["taken"], []
        self._episodes, self._scores = list(state["episodes"]), list(state["scores"])
        self._lengths = list(state["lengths"])
        is_last = rows.is_last.clone()
        for i in range(len(self)):
            lost = self._restore(i, state["environments"][i], state["actions"][i], rows)
            if lost:
                warnings.warn(f"environment {i} {lost}; it begins a new episode", stacklevel=2)
                is_last[i] = True
        self._rows = rows._replace(is_last=is_last)
        return self._rows

    def close(self) -> None:
        """Close every environment."""
        for environment in self._environments:
            environment.close()

    def _reset(self, i: int) -> Step:
        self._episodes[i] += 1
        self._scores[i], self._lengths[i] = 0.0, 0
        log = self._logs[i]
        if log is not None:
            log.clear()
        return self._environments[i].reset(self._episode_seed(i))

    def _act(self, i: int, vector: np.ndarray) -> Step:
        log = self._logs[i]
        if log is not None:
            log.append(vector)
        step = self._environments[i].step(split_action(self.action, vector))
        self._scores[i] += step.reward
        self._lengths[i] += 1
        return step

    def _episode_seed(self, i: int) -> int:
        entropy = [self._seed, i, self._episodes[i]]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def _collect(self, steps: list[Step]) -> Rows:
        for i, step in enumerate(steps):
            self._check_step(i, step)
        self._taken += 1
        self.finished = [
            Episode(i, self._scores[i], self._lengths[i])
            for i, step in enumerate(steps)
            if step.is_last
        ]
        obs = {
            key: torch.from_numpy(np.stack([step.obs[key] for step in steps]))
            for key in self.observation
        }
        flags = {name: torch.tensor([getattr(step, name) for step in steps]) for name in _FLAGS}
        reward = torch.tensor([step.reward for step in steps], dtype=torch.float32)
        self._rows = Rows(obs=obs, reward=reward, **flags)
        return self._rows

    def _check_step(self, i: int, step: Step) -> None:
        where = f"environment {i} at step {self._taken}"
        if step.obs.keys() != self.observation.keys():
            raise ValueError(
                f"{where} gave the observations {sorted(step.obs)}; its space has "
                f"{sorted(self.observation)}"
            )
        if not math.isfinite(step.reward):
            raise ValueError(f"{where} gave the reward {step.reward}; a reward is finite")
        for key, space in self.observation.items():
            value = step.obs[key]
            dtype = _dtype(space)
            if value.shape != space.shape or value.dtype != dtype:
                raise ValueError(
                    f"{where} gave {key!r} as {value.dtype}{list(value.shape)}; its space "
                    f"{space} is {dtype}{list(space.shape)}"
                )
            if isinstance(space, Continuous) and not np.isfinite(value).all():
                raise ValueError(f"{where} gave NaN or inf in {key!r}; an observation is finite")

    def _check_layout(self, rows: Rows) -> None:
        given = {key: _describe(value) for key, value in rows.obs.items()}
        lead = [len(self)]
        wanted = {k: f"{_dtype(s)}{lead + list(s.shape)}" for k, s in self.observation.items()}
        if given != wanted:
            raise ValueError(
                f"EnvVector was asked to continue from rows of {given}; its environments give "
                f"{wanted}"
            )

    def _restore(self, i: int, state: bytes | None, actions: Tensor | None, rows: Rows) -> str:
        """Bring environment i back; what went wrong, or nothing."""
        environment = self._environments[i]
        if state is not None:
            self._logs[i] = None
            try:
                environment.set_state(state)
            except NotRestored as cause:
                return f"did not come back to where it was ({cause})"
            return ""
        log = self._logs[i] = ActionLog(self._size)
        log.replace(np.empty((0, self._size)) if actions is None else actions.numpy())
        if rows.is_last[i]:
            return ""  # the next step resets: where it stood no longer matters
        step = reenact(environment, self._episode_seed(i), log.rows())
        part = "its episode ended early" if step is None else _difference(step, rows, i)
        return f"did not re-enact its episode: after {len(log)} actions {part}" if part else ""


def _difference(step: Step, rows: Rows, i: int) -> str:
    """Which part of a row is not what it was."""
    for key, value in rows.obs.items():
        if not np.array_equal(step.obs[key], value[i].numpy()):
            return f"the observation {key!r} differs"
    if np.float32(step.reward) != rows.reward[i].item():
        return f"the reward is {step.reward}, not {rows.reward[i].item()}"
    return "the episode ended" if step.is_last else ""


def _dtype(space: Any) -> np.dtype:
    if isinstance(space, Continuous):
        return np.dtype(np.float32)
    return np.dtype(np.int64 if isinstance(space, Discrete) else np.uint8)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
