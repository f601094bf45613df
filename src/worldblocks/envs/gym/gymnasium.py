"""Any gymnasium environment, by id or from a function."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from worldblocks.envs.errors import at_least_one, extra, no_episode, no_state
from worldblocks.envs.gym.answers import begin, check_single, frame, proceed, space_of
from worldblocks.envs.gym.conversion import actions, observations
from worldblocks.envs.gym.factory import call, make_named
from worldblocks.envs.gym.images import LOOKED_AT, resized
from worldblocks.envs.named import suite
from worldblocks.envs.record import Environment, Step
from worldblocks.envs.rendering import choose_backend
from worldblocks.spaces import Actions, Image, Spaces

RENDERED = 64  # the side of rendered frames, if none is given
_PROTOCOL = ("observation", "action", "reset", "step", "get_state", "set_state", "close")


@suite
def gym(
    env: str | Callable[..., Any],
    *,
    pixels: bool = False,
    size: int | None = None,
    repeat: int = 1,
    grids: int | Mapping[str, int] = 0,
    float_images: bool = False,
    **kwargs: Any,
) -> Environment:
    """A gymnasium environment as an `Environment`.

    Observations: a uint8 `Box` of two or three axes is an image; other boxes are float32 vectors;
    `Discrete`, `MultiDiscrete` and `MultiBinary` are classes counted from 0; `Dict` and `Tuple` are
    flattened, keys joined by "/". A single observation is called `image` or `vector`. Other spaces
    are left out with a warning. A box that is probably a grid, or an image of floats, is a warning
    too, which names the argument.

    Actions: the same spaces (key `action` for a single one). A `Box` is scaled from [-1, 1] to its
    bounds; without bounds, the number is passed unchanged, with a warning.

    Args:
        env: an id such as `CartPole-v1`; `package.module:factory`, which is imported; or a function
            that returns a `gymnasium.Env`, a `dm_env.Environment` (see `dm_env`), or a
            `wb.envs.Environment`, which is used as it is.
        pixels: observe only the rendered frame, resized, as `image`.
        size: height and width to which images are resized. By default they keep those of the
            environment, and rendered frames have 64.
        repeat: steps per action; their rewards are summed.
        grids: which boxes of whole numbers with two or three axes are a `Grid`, and of how many
            classes, by key (`{"board": 2}`; a single observation is called `image`); one number is
            for all of them. Class 0 is the space's lower bound.
        float_images: whether boxes of floats that look like images are images: with bounds, two or
            three axes, sides from 8. The lower bound is black, the upper one white.
        **kwargs: for `gymnasium.make` or the factory.

    Raises:
        ImportError: gymnasium or the module is missing.
        ValueError: an unknown id, a space that is not supported, a number out of range, arguments
            that the environment does not take.
        TypeError: the factory is not a function, or does not return an environment.
        RuntimeError: MuJoCo must render, and this machine has no OpenGL for it.
    """
    with extra("gym"):
        import gymnasium
        import PIL.Image  # noqa: F401
    at_least_one("wb.envs.gym", size=1 if size is None else size, repeat=repeat)
    if isinstance(env, str):
        made = make_named(gymnasium, env, pixels, kwargs)
    elif callable(env):
        made = call(env, pixels, kwargs)
    else:
        raise TypeError(
            f"wb.envs.gym got {env!r}; it takes an id, 'package.module:factory', or a function "
            f"that makes the environment, such as `lambda: environment`"
        )
    if pixels and (grids or float_images):
        raise ValueError(
            f"wb.envs.gym got pixels=True, which observes the rendered frame alone, and "
            f"grids={grids!r}, float_images={float_images}; give pixels or those"
        )
    view: Any = {"pixels": pixels, "size": size, "repeat": repeat}
    view |= {"grids": grids, "float_images": float_images}
    if isinstance(made, gymnasium.Env):
        return GymnasiumEnvironment(made, **view)
    from worldblocks.envs.dm_env import DmEnvironment, is_dm_env  # which is built on this module

    if is_dm_env(made):
        return DmEnvironment(made, **view)
    if not all(hasattr(made, name) for name in _PROTOCOL):
        hint = ""
        if isinstance(made, type):
            hint = f", not a class: return {made.__name__}()"
        elif hasattr(made, "num_envs"):
            hint = ", a single one: a vector of them is made by wb.envs.EnvVector"
        elif hasattr(made, "step") and hasattr(made, "reset"):
            hint = f": derive its class from it, `class {type(made).__name__}(gymnasium.Env)`"
        raise TypeError(
            f"wb.envs.gym got {made!r} from {env!r}; a factory returns a gymnasium.Env or a "
            f"wb.envs.Environment{hint}"
        )
    if pixels or repeat != 1:
        raise ValueError(
            f"wb.envs.gym got pixels={pixels} and repeat={repeat} for {env!r}, which returns a "
            f"wb.envs.Environment; that is used as it is: give them to the factory"
        )
    if grids or float_images:
        raise ValueError(
            f"wb.envs.gym got grids={grids} and float_images={float_images} for {env!r}, which "
            f"returns a wb.envs.Environment; that is used as it is: it describes a grid by "
            f"wb.spaces.Grid and an image by wb.spaces.Image itself"
        )
    images = {k: s for k, s in made.observation.items() if isinstance(s, Image)}
    if size and any((image.height, image.width) != (size, size) for image in images.values()):
        warnings.warn(
            f"wb.envs.gym was asked for images of {size}×{size} (size, --image), but {env!r} "
            f"returns a wb.envs.Environment, which is used as it is, with {images}: give the size "
            f"to the factory",
            stacklevel=2,
        )
    return made


class GymnasiumEnvironment:
    """A `gymnasium.Env` as an `Environment`; built by `gym`, which explains the arguments.

    There is no saved state: `get_state()` is None, and a vector plays the episode again.
    """

    def __init__(
        self,
        env: Any,
        *,
        pixels: bool,
        size: int | None,
        repeat: int,
        grids: int | Mapping[str, int] = 0,
        float_images: bool = False,
    ) -> None:
        if pixels and env.render_mode != "rgb_array":
            raise ValueError(
                f"wb.envs.gym was asked for pixels, but the environment has "
                f"render_mode={env.render_mode!r}; make it with render_mode='rgb_array'"
            )
        if pixels and hasattr(env.unwrapped, "mujoco_renderer"):
            choose_backend(f"wb.envs.gym with pixels of {env}")
        check_single(env)
        self._env, self._pixels, self._size, self._repeat = env, pixels, size or RENDERED, repeat
        self._over, self._rows = True, 0
        names = ["action_space"] if pixels else ["action_space", "observation_space"]
        self._spaces = {name: space_of(env, name) for name in names}
        self.action: Actions
        self.observation: Spaces = {"image": Image(self._size, self._size, 3)}
        if not pixels:
            space = self._spaces["observation_space"]
            self.observation, self._observe = observations(
                space, size, str(env), grids, float_images
            )
        self.action, self._build = actions(self._spaces["action_space"])

    def reset(self, seed: int) -> Step:
        """Begin an episode with the environment seeded."""
        obs = begin(self._env, seed)
        for name, space in self._spaces.items():
            now = space_of(self._env, name)
            if now is not space and now != space:
                raise ValueError(
                    f"{self._env} changed its {name} at a reset, from {space} to {now}; the agent "
                    f"is built for the first: declare one space in __init__ that holds all, and "
                    f"pad to it"
                )
        self._over = False
        return Step(self._observation(obs, True), 0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do the action of each key `repeat` times, or until the episode ends."""
        if self._over:
            raise no_episode(self._env)
        reward, obs, terminated, truncated = 0.0, None, False, False
        for _ in range(self._repeat):
            # A new action each time: the environment may change the array that it gets.
            obs, gained, terminated, truncated = proceed(self._env, self._build(action))
            reward += gained
            if terminated or truncated:
                break
        self._over = terminated or truncated
        return Step(self._observation(obs, False), reward, False, self._over, terminated)

    def _observation(self, obs: Any, begins: bool) -> dict[str, np.ndarray]:
        if self._pixels:
            return {"image": resized(frame(self._env), self._size)}
        self._rows += 1
        return self._observe(obs, begins or self._rows <= LOOKED_AT)

    def get_state(self) -> None:
        """None: gymnasium has no method for a state."""

    def set_state(self, state: bytes) -> None:
        """Raises: there is no state."""
        raise no_state(self._env)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
