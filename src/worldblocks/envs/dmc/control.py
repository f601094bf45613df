"""Tasks of the DeepMind Control suite, from proprioception or from pixels."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from worldblocks.envs.errors import at_least_one, extra, no_episode, no_state, unknown
from worldblocks.envs.features import PREFIX
from worldblocks.envs.named import suite
from worldblocks.envs.record import Step
from worldblocks.envs.rendering import choose_backend
from worldblocks.spaces import Actions, Continuous, Image, Spaces

_CAMERAS = {"quadruped": 2}  # as in the reference
_UNLIMITED = 1e10  # dm_control's bound of a motor that has none (mjMAXVAL)


@suite
def dmc(
    task: str,
    *,
    pixels: bool = False,
    size: int = 64,
    repeat: int = 2,
    camera: int | str | None = None,
    shadows: bool = True,
    features: Sequence[str] = (),
) -> "Control":
    """A task of the DeepMind Control suite as an `Environment`; action `action` in [-1, 1].

    Without pixels, the observations are those of the suite under their own names, float32, and
    nothing is rendered. An episode ends at its time limit of 1000 control steps (`is_last` only);
    the two `lqr` tasks have no time limit.

    Args:
        task: domain and task, `cartpole_swingup`, `ball_in_cup_catch` …
        pixels: observe only the picture of a camera, as `image`.
        size: height and width of the image.
        repeat: control steps per action; their rewards are summed. Published DMC curves count
            control steps.
        camera: index or name of the camera; None is 0, and 2 for the quadruped.
        shadows: render shadows. Without them, rendering on a CPU is several times faster, but the
            image differs.
        features: methods of the domain's physics that return a number, such as `torso_height` of
            the walker. The observation `feat/torso_height` holds its value after each of the
            `repeat` control steps. `feat/lived` is 1 for each control step that was done: none at a
            reset, fewer at the end. Use them as targets and for rewards, not as inputs of an agent.

    Raises:
        ImportError: dm_control is missing.
        ValueError: an unknown task, camera or feature, or a number out of range.
        RuntimeError: rendering is needed, and this machine has no OpenGL for it.

    Source: Tassa et al. 2018; `embodied/envs/dmc.py` of danijar/dreamerv3 (cameras, repeat).
    """
    at_least_one("wb.envs.dmc", size=size, repeat=repeat)
    # quadruped_escape passes its terrain to OpenGL at each reset, even if nothing is rendered, and
    # dm_control imports the backend that MUJOCO_GL names.
    renders = pixels or task == "quadruped_escape"
    if renders or os.environ.get("MUJOCO_GL"):
        choose_backend(f"wb.envs.dmc({task!r}, pixels={pixels})", renders)
    with extra("dmc"), warnings.catch_warnings():
        # Without a display, the import warns that it could not open a window.
        warnings.simplefilter("ignore")
        from dm_control import suite
    names = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
    if task not in names:
        where = "dm_control.suite.ALL_TASKS lists them"
        raise unknown("DeepMind Control task", task, names, where)
    domain, name = names[task]
    # A few tasks draw their model when they are loaded; the seed makes it equal in every process.
    env = suite.load(domain, name, task_kwargs={"random": 0})
    camera = _CAMERAS.get(domain, 0) if camera is None else camera
    if pixels:
        _check_camera(env.physics.model, task, camera)
    if absent := [one for one in features if not hasattr(env.physics, one)]:
        present = sorted(one for one in vars(type(env.physics)) if not one.startswith("_"))
        raise ValueError(f"{task} has no features {absent}; its physics has {present}")
    options: dict[str, Any] = {"camera": camera, "shadows": shadows, "features": features}
    return Control(env, pixels=pixels, size=size, repeat=repeat, **options)


class Control:
    """A task of the suite as an `Environment`; built by `dmc`, which explains the arguments.

    The seed of the reset and the actions determine an episode exactly, independently of earlier
    ones. There is no saved state: `get_state()` is None, and a vector plays the episode again
    (a tenth of a second).
    """

    def __init__(
        self,
        env: Any,
        *,
        pixels: bool,
        size: int,
        repeat: int,
        camera: int | str,
        shadows: bool,
        features: Sequence[str] = (),
    ) -> None:
        self._env, self._pixels, self._repeat, self._over = env, pixels, repeat, True
        self._features = list(features)
        self._view = {"height": size, "width": size, "camera_id": camera}
        if not shadows:
            self._view["render_flag_overrides"] = {"shadow": False}
        spec = env.action_spec()
        limited = (spec.minimum > -_UNLIMITED) & (spec.maximum < _UNLIMITED)
        self._low = np.where(limited, spec.minimum, -1.0)
        self._high = np.where(limited, spec.maximum, 1.0)
        self.action: Actions = {"action": Continuous(spec.shape)}
        self.observation: Spaces = {"image": Image(size, size, 3)}
        if not pixels:
            parts = env.observation_spec().items()
            self.observation = {key: Continuous(part.shape) for key, part in parts}
        if features:
            self.observation |= {PREFIX + n: Continuous((repeat,)) for n in [*features, "lived"]}

    @property
    def physics(self) -> Any:
        """dm_control's physics of the task."""
        return self._env.physics

    def reset(self, seed: int) -> Step:
        """Begin an episode, which depends only on `seed`."""
        self._env.task.random.seed(seed)
        timestep = self._env.reset()
        self._over = False
        return Step(self._observe(timestep.observation, []), 0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do `action["action"]`, clipped to [-1, 1], for `repeat` control steps."""
        if self._over:
            raise no_episode("a DeepMind Control task")
        share = (np.clip(action["action"], -1.0, 1.0).astype(np.float64) + 1) / 2
        control = self._low * (1 - share) + self._high * share
        timestep = self._env.step(control)
        reward, lived = float(timestep.reward), [self._now()]
        for _ in range(self._repeat - 1):
            if timestep.last():
                break
            timestep = self._env.step(control)
            reward += float(timestep.reward)
            lived.append(self._now())
        self._over = timestep.last()
        terminal = self._over and bool(timestep.discount == 0)
        return Step(self._observe(timestep.observation, lived), reward, False, self._over, terminal)

    def _now(self) -> list[float]:
        """The features after a control step."""
        return [float(getattr(self._env.physics, name)()) for name in self._features]

    def _observe(self, values: dict[str, Any], lived: list[list[float]]) -> dict[str, np.ndarray]:
        if self._pixels:
            obs = {"image": self._env.physics.render(**self._view)}
        else:
            keys = [key for key in self.observation if not key.startswith(PREFIX)]
            obs = {key: np.array(values[key], np.float32) for key in keys}
        if self._features:
            rows = np.zeros((self._repeat, len(self._features) + 1), np.float32)
            rows[: len(lived)] = [[*row, 1.0] for row in lived] or 0.0
            names = [PREFIX + name for name in [*self._features, "lived"]]
            obs |= zip(names, rows.T, strict=True)
        return obs

    def get_state(self) -> None:
        """None: a vector plays the episode again instead."""

    def set_state(self, state: bytes) -> None:
        """Raises: there is no state."""
        raise no_state("a DeepMind Control task")

    def close(self) -> None:
        """Release the simulator and its window."""
        self._env.close()


def _check_camera(model: Any, task: str, camera: int | str) -> None:
    names = [model.id2name(i, "camera") for i in range(model.ncam)]
    if camera not in names and camera not in range(-1, len(names)):
        raise ValueError(
            f"wb.envs.dmc got camera={camera!r} for {task}; it has the cameras {names}, 0 to "
            f"{len(names) - 1}, and the free one, -1"
        )
