"""Any environment of the `dm_env` interface: dm_control's own tasks, bsuite, one of yours."""

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from worldblocks.envs.errors import at_least_one, extra
from worldblocks.envs.gym.factory import call_factory
from worldblocks.envs.gym.gymnasium import GymnasiumEnvironment
from worldblocks.envs.named import import_place, suite
from worldblocks.envs.packing import pack, unpack
from worldblocks.envs.rendering import choose_backend

MOST_CLASSES = 10_000  # of an action; more are the bounds of a dtype
_PROTOCOL = ("reset", "step", "action_spec", "observation_spec")
_DEPTH = 4  # wrappers that are searched for generators
Reseed = Callable[[Any, int], Any]


@suite
def dm_env(
    env: str | Callable[..., Any],
    *,
    pixels: bool = False,
    size: int | None = None,
    repeat: int = 1,
    grids: int | Mapping[str, int] = 0,
    float_images: bool = False,
    camera: int | str = 0,
    reseed: Reseed | None = None,
    **kwargs: Any,
) -> "DmEnvironment":
    """A `dm_env.Environment` as an `Environment`; `wb.envs.gym` takes one too.

    Observations and actions become spaces as in `wb.envs.gym`: a uint8 array of two or three axes
    is an image, `DiscreteArray` and bounded whole numbers of an action are classes, other arrays
    are float32 vectors; nested specs are flattened, keys joined by "/". Actions in [-1, 1] are
    scaled to the bounds. The last timestep is terminal if its discount is 0; no reward counts as 0.

    `dm_env` has no seeds. A reset seeds every NumPy or Python generator that is an attribute of the
    environment, of its task or of one that it wraps; give `reseed` if its randomness is elsewhere.

    If the environment has `get_state() -> bytes` and `set_state(bytes)`, that is its state.
    Otherwise `get_state()` is None, and a vector plays the episode again.

    Args:
        env: `package.module:factory`, or a function that returns the environment.
        pixels: observe only the picture of a camera, as `image`; for environments with `physics`.
        size: height and width of images; by default as they are, the picture of a camera 64.
        repeat: steps per action; their rewards are summed.
        grids, float_images: as for `wb.envs.gym`.
        camera: index or name of the camera.
        reseed: `reseed(environment, seed)` is called before each reset instead.
        **kwargs: for the factory.

    Raises:
        ImportError: gymnasium, whose spaces it uses, or the module of the factory is missing.
        TypeError: the factory is not a function, or does not return such an environment.
        ValueError: a spec that is not supported, no picture, or a number out of range.
        RuntimeError: rendering is needed, and this machine has no OpenGL for it.

    Source: Muldal et al. 2019, dm_env: A Python interface for reinforcement learning environments.
    """
    with extra("gym"):
        import gymnasium  # noqa: F401
        import PIL.Image  # noqa: F401
    at_least_one("wb.envs.dm_env", size=1 if size is None else size, repeat=repeat)
    factory = _factory(env) if isinstance(env, str) else env
    if not callable(factory) or is_dm_env(factory):
        raise TypeError(
            f"wb.envs.dm_env got {env!r}; it takes 'package.module:factory', or a function that "
            f"makes the environment, such as `lambda: environment`"
        )
    made = call_factory(factory, kwargs, "wb.envs.dm_env")
    if not is_dm_env(made):
        raise TypeError(
            f"wb.envs.dm_env got {made!r} from {env!r}; it takes a dm_env.Environment, with "
            f"{', '.join(_PROTOCOL)}; wb.envs.gym takes a gymnasium.Env"
        )
    view: Any = {"pixels": pixels, "size": size, "repeat": repeat}
    view |= {"grids": grids, "float_images": float_images}
    return DmEnvironment(made, camera=camera, reseed=reseed, **view)


def is_dm_env(one: Any) -> bool:
    """Whether an object is an environment of the `dm_env` interface."""
    return not isinstance(one, type) and all(callable(getattr(one, n, None)) for n in _PROTOCOL)


class DmEnvironment(GymnasiumEnvironment):
    """A `dm_env.Environment` as an `Environment`; built by `dm_env`, which explains the rest."""

    def __init__(
        self,
        env: Any,
        *,
        pixels: bool,
        size: int | None,
        repeat: int,
        camera: int | str = 0,
        reseed: Reseed | None = None,
        **images: Any,
    ) -> None:
        self._made = env
        if pixels and not hasattr(env, "physics"):
            raise ValueError(
                f"wb.envs.dm_env was asked for pixels of {env!r}, which has no `physics` to "
                f"render; let it observe a picture, or take pixels=False"
            )
        if pixels:
            choose_backend(f"wb.envs.dm_env with pixels of {env!r}")
        view: Any = {"pixels": pixels, "size": size, "repeat": repeat, **images}
        super().__init__(_Timesteps(env, camera, reseed), **view)

    @property
    def _has_state(self) -> bool:
        return hasattr(self._made, "get_state") and hasattr(self._made, "set_state")

    def get_state(self) -> bytes | None:  # type: ignore[override]
        """The environment's own state if it gives one as bytes, else None."""
        state = self._made.get_state() if self._has_state else None
        if not isinstance(state, bytes):
            return None
        return pack({"over": self._over}, {"state": np.frombuffer(state, np.uint8)})

    def set_state(self, state: bytes) -> None:
        """Continue from `get_state()`, in this process or another.

        Raises:
            ValueError: the bytes are damaged, or the environment has no state.
        """
        if not self._has_state:
            super().set_state(state)
        values, arrays = unpack(state)
        self._made.set_state(arrays["state"].tobytes())
        self._over = values["over"]


class _Timesteps:
    """A `dm_env.Environment` behind the methods of gymnasium."""

    render_mode = "rgb_array"

    def __init__(self, env: Any, camera: int | str, reseed: Reseed | None) -> None:
        self.unwrapped, self._camera, self._reseed = self, camera, reseed or _seed_generators
        self._env, self._action = env, env.action_spec()
        self.observation_space = _space(env.observation_spec(), acts=False)
        self.action_space = _space(self._action, acts=True)

    def __repr__(self) -> str:
        return repr(self._env)

    def reset(self, *, seed: int) -> tuple[Any, dict]:
        self._reseed(self._env, seed)
        return self._env.reset().observation, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        now = self._env.step(_as_spec(self._action, action))
        reward = 0.0 if now.reward is None else now.reward
        last = bool(now.last())
        terminal = last and now.discount is not None and not np.any(now.discount)
        return now.observation, reward, terminal, last and not terminal, {}

    def render(self) -> np.ndarray:
        return self._env.physics.render(height=240, width=320, camera_id=self._camera)

    def close(self) -> None:
        if hasattr(self._env, "close"):
            self._env.close()


def _space(spec: Any, acts: bool) -> Any:
    """The gymnasium space of a spec."""
    from gymnasium import spaces

    if isinstance(spec, Mapping):
        return spaces.Dict({key: _space(part, acts) for key, part in spec.items()})
    if isinstance(spec, list | tuple):
        return spaces.Tuple([_space(part, acts) for part in spec])
    shape, dtype = tuple(spec.shape), np.dtype(spec.dtype)
    if hasattr(spec, "num_values"):
        return spaces.Discrete(int(spec.num_values))
    if dtype == np.bool_:
        return spaces.MultiBinary(list(shape)) if shape else spaces.Discrete(2)
    if dtype.kind not in "iuf":
        return spaces.Text(1)  # not observed; as an action it is refused
    whole = dtype.kind in "iu"
    bounds = (np.iinfo(dtype).min, np.iinfo(dtype).max) if whole else (-np.inf, np.inf)
    low, high = (
        np.broadcast_to(np.asarray(getattr(spec, name, bound)), shape)
        for name, bound in zip(("minimum", "maximum"), bounds, strict=True)
    )
    classes = acts and whole and hasattr(spec, "minimum")
    if classes and (high.astype(float) - low.astype(float) < MOST_CLASSES).all():
        counts = high.astype(np.int64) - low.astype(np.int64) + 1
        if not shape:
            return spaces.Discrete(int(counts), start=int(low))
        return spaces.MultiDiscrete(counts, start=low.astype(np.int64))
    return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)


def _as_spec(spec: Any, action: Any) -> Any:
    """An action in the structure and the dtypes of a spec."""
    if isinstance(spec, Mapping):
        return {key: _as_spec(part, action[key]) for key, part in spec.items()}
    if isinstance(spec, list | tuple):
        parts = [_as_spec(part, one) for part, one in zip(spec, action, strict=True)]
        if hasattr(spec, "_fields"):
            return type(spec)(*parts)
        return type(spec)(parts)
    return np.asarray(action, spec.dtype)


def _seed_generators(env: Any, seed: int) -> None:
    """Seed every generator that an environment holds, each with a seed of its own."""
    for place, one in enumerate(_generators(env, _DEPTH)):
        own = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
        if isinstance(one, np.random.Generator):
            one.bit_generator.state = type(one.bit_generator)(own).state
        else:
            one.seed(own)


def _generators(holder: Any, depth: int, seen: set[int] | None = None) -> Iterator[Any]:
    """The generators among the attributes of an environment, its task and those it wraps."""
    seen = set() if seen is None else seen
    for one in getattr(holder, "__dict__", {}).values():
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.random.RandomState | np.random.Generator | random.Random):
            yield one
        elif depth and (is_dm_env(one) or hasattr(one, "get_reward")):
            yield from _generators(one, depth - 1, seen)


def _factory(name: str) -> Any:
    """The function that `package.module:factory` names."""
    place, _, wanted = name.partition(":")
    if not place or not wanted:
        raise ValueError(
            f"wb.envs.dm_env got {name!r}; it takes 'package.module:factory', or a function that "
            f"makes the environment"
        )
    module = import_place("wb.envs.dm_env", name, place)
    try:
        return functools.reduce(getattr, wanted.split("."), module)
    except AttributeError:
        raise ValueError(
            f"wb.envs.dm_env was asked for {name!r}, but {place} defines no {wanted!r}"
        ) from None
