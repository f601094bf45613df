"""An episode from NumPy arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from numpy import ndarray
from numpy.typing import ArrayLike
from torch import Tensor

from worldblocks.replay.batch import Batch
from worldblocks.spaces import Actions, Continuous, Discrete, one_hot_action

CHANNELS = (1, 3, 4)  # of a picture: grey, RGB, RGBA


def episode_from_numpy(
    obs: ArrayLike | Mapping[str, ArrayLike],
    action: ArrayLike | Mapping[str, ArrayLike],
    reward: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike = False,
    *,
    actions: Actions | None = None,
) -> Batch:
    """An episode of T actions as a `Batch` of T + 1 rows, `time ...`.

    The arrays are as most recordings have them: `action[t]` was chosen *at* `obs[t]`, and
    `reward[t]` arrived with `obs[t + 1]`. The rows of a batch have the action that *led to* them:

        place             0      1      2    …    T-1     T
        obs              o_0    o_1    o_2       o_T-1   o_T
        action           a_0    a_1    a_2       a_T-1
        reward           r_1    r_2    r_3       r_T

        row               0      1      2    …    T-1     T
        obs              o_0    o_1    o_2       o_T-1   o_T
        prev_action       0     a_0    a_1       a_T-2   a_T-1
        reward            0     r_1    r_2       r_T-1   r_T
        is_first          1      0      0         0       0
        is_last           0      0      0         0       1
        is_terminal       0      0      0         0     terminated

    An observation of uint8 with the axes `time height width channel` (or without `channel`: grey)
    is an image, or a board of classes (see `observation_spaces`), and stays uint8. Other integers
    and booleans are classes from 0 on, int64. All else becomes float32.

    Args:
        obs: o_0 … o_T, by key; a single array gets the key `image` or `vector`.
        action: a_0 … a_T-1, by key; a single array gets the key of `actions`, or `action`.
        reward: r_1 … r_T.
        terminated: whether o_T ends the episode by itself: one flag, or T of which only the last
            may be true.
        truncated: the same for a time limit. The last row is `is_last` in any case, since no row
            follows.
        actions: what the actions are, by key; needed for integers, which become one-hots. Floats
            are kept as they are; to act with `wb.envs` later, scale them from their bounds to
            [-1, 1].

    Raises:
        ValueError: an array has another number of rows, is not numeric, or is not finite; an
            observation is a float image; an action is not in its space; a flag is true before the
            last row.

    >>> episode = episode_from_numpy(
    ...     obs=np.array([[0.5], [1.5], [2.5]]),
    ...     action=np.array([2, 0]),
    ...     reward=np.array([0.0, 1.0]),
    ...     terminated=True,
    ...     actions={"action": Discrete(3)},
    ... )
    >>> episode.prev_action.tolist()  # row 1: the action chosen at row 0
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    >>> episode.reward.tolist(), episode.is_terminal.tolist()
    ([0.0, 0.0, 1.0], [False, False, True])
    """
    seen = {key: _observation(key, value) for key, value in _by_key(obs, "obs", None).items()}
    single = next(iter(actions)) if actions and len(actions) == 1 else "action"
    chosen = _actions(_by_key(action, "action", single), actions)
    _check_rows(seen, "obs", steps := len(chosen), more=1)
    received = _array("reward", reward)
    _check_rows({"": received}, "reward", steps)
    if received.ndim != 1:
        raise ValueError(f"reward is {_shown(received)}; it has one number for each action")
    place = torch.arange(steps + 1)
    ended = _flag("terminated", terminated, steps)
    _flag("truncated", truncated, steps)
    return Batch(
        obs=seen,
        prev_action=torch.cat([chosen.new_zeros(1, chosen.shape[1]), chosen]),
        reward=torch.cat([torch.zeros(1), _floats("reward", received)]),
        is_first=place == 0,
        is_last=place == steps,
        is_terminal=(place == steps) & ended,
    )


def _by_key(value: Any, name: str, key: str | None) -> dict[str, ndarray]:
    """Numeric arrays by key; the key of a single observation says what it is."""
    if not isinstance(value, Mapping):
        array = _array(name, value)
        image = array.dtype == np.uint8 and array.ndim in (3, 4)
        return {key or ("image" if image else "vector"): array}
    if not value:
        raise ValueError(f"{name} is empty; give an array, or arrays by key")
    return {part: _array(f"{name} {part!r}", each) for part, each in value.items()}


def _array(name: str, value: Any) -> ndarray:
    """An array of numbers or booleans."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of several lengths
        raise ValueError(f"{name} is not an array: {error}; give one array of numbers") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} has the dtype {array.dtype}; it must hold numbers or booleans in one array "
            f"`time ...`: stack the rows, np.stack(rows)"
        )
    if not array.ndim:
        raise ValueError(f"{name} is a single number; it must have a row for each time, `time ...`")
    return array


def _observation(key: str, array: ndarray) -> Shaped[Tensor, "time ..."]:
    name, axes = f"obs {key!r}", array.ndim - 1
    if array.dtype == np.uint8 and axes in (2, 3):
        array = array[..., None] if axes == 2 else array
        if channels_first(array.shape[1:]):
            raise ValueError(
                f"{name} is {_shown(array)}, which looks like `time channel height width`; images "
                f"are `time height width channel`: give x.transpose(0, 2, 3, 1)"
            )
        return torch.from_numpy(np.ascontiguousarray(array))
    if axes > 2:
        raise ValueError(
            f"{name} is {_shown(array)}; an image is uint8 `time height width channel` from 0 to "
            f"255: give (255 * x).round().astype(np.uint8) if it is from 0 to 1; a board of "
            f"classes is uint8 as well: x.astype(np.uint8); other observations have at most 2 "
            f"axes: x.reshape(len(x), -1)"
        )
    if array.dtype.kind == "f" or array.dtype == np.uint8:
        return _floats(name, array)
    classes = array.astype(np.int64)
    if classes.size and classes.min() < 0:
        raise ValueError(
            f"{name} is {_shown(array)} with {classes.min()}; integers are classes from 0 on: "
            f"subtract the first class, or give numbers as x.astype(np.float32)"
        )
    return torch.from_numpy(classes)


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the axes of an image seem to be `channel height width`."""
    return shape[0] in CHANNELS and shape[2] not in CHANNELS and min(shape[1:]) >= 8


def _actions(values: dict[str, ndarray], actions: Actions | None) -> Float32[Tensor, "time action"]:
    """Flat action vectors; a discrete part is a one-hot."""
    described = actions or {key: Continuous(value.shape[1:]) for key, value in values.items()}
    parts = {}
    for key, value in values.items():
        space, kind = described.get(key), value.dtype.kind
        if actions is None and kind != "f":
            raise ValueError(
                f"action {key!r} is {_shown(value)}; one episode does not show how many classes "
                f"integers have: give actions={{{key!r}: wb.spaces.Discrete(n)}}, or floats"
            )
        if isinstance(space, Discrete) and kind == "f":
            raise ValueError(
                f"action {key!r} is {_shown(value)} and its space {space}; give classes as "
                f"integers, or one-hots and no `actions`"
            )
        if space is not None and value.ndim != 1 + len(space.shape):
            raise ValueError(
                f"action {key!r} is {_shown(value)}, and each is {space}: its shape must be "
                f"[time{''.join(f', {n}' for n in space.shape)}]"
            )
        if isinstance(space, Discrete):
            parts[key] = torch.from_numpy(value.astype(np.int64))
        else:
            parts[key] = _floats(f"action {key!r}", value)
    if len(rows := {len(part) for part in parts.values()}) > 1:
        raise ValueError(
            f"the parts of action have {sorted(rows)} rows; each part has one for each action"
        )
    return one_hot_action(described, parts)


def _floats(name: str, array: ndarray) -> Shaped[Tensor, "time ..."]:
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        row = np.argwhere(~np.isfinite(floats))[0, 0]
        raise ValueError(
            f"{name} holds {array[~np.isfinite(floats)][0]} at place {row}; replay stores finite "
            f"float32 numbers only"
        )
    return torch.from_numpy(floats)


def _flag(name: str, value: Any, steps: int) -> bool:
    """Whether the last row has a flag."""
    flags = np.asarray(value)
    whole = flags.dtype.kind in "biuf" and np.isin(flags, (0, 1)).all()
    if not whole or flags.shape not in ((), (steps,)):
        raise ValueError(
            f"{name} is {_shown(flags)}; it is one flag of the episode, or one for each of "
            f"{steps} actions"
        )
    if flags.ndim and flags[:-1].any():
        raise ValueError(
            f"{name} is true at place {int(flags.argmax())} of {steps}; an episode ends with its "
            f"arrays: split them there, and give each episode"
        )
    return bool(flags[-1:].any() if flags.ndim else flags)


def _check_rows(arrays: Mapping[str, Any], name: str, steps: int, more: int = 0) -> None:
    for key, array in arrays.items():
        if len(array) == steps + more:
            continue
        what = f"{name} {key!r}" if key else name
        advice = f"give {steps + more}"
        if more and len(array) == steps:
            advice = (
                "the observation to which the last action led is missing: append it, or drop the "
                "last action and reward and leave `terminated` false"
            )
        elif len(array) == steps + 1:
            advice = f"drop the {name} of row 0, which no action led to"
        raise ValueError(
            f"{what} has {len(array)} rows and action {steps}; an episode has observations "
            f"o_0 … o_T, actions a_0 … a_T-1 and rewards r_1 … r_T: {advice}"
        )


def _shown(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
