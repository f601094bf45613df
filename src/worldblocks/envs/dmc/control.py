"""The DeepMind Control suite, from its own numbers (proprioception) or from pixels."""

import difflib
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from worldblocks.envs.arguments import at_least_one
from worldblocks.envs.features import PREFIX
from worldblocks.envs.record import Step
from worldblocks.envs.rendering import choose_backend
from worldblocks.spaces import Actions, Continuous, Image, Spaces

_CAMERAS = {"quadruped": 2}  # as in the reference
_UNLIMITED = 1e10  # the bound dm_control gives for a motor without one (mjMAXVAL)


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

    Without pixels the observations are those of the suite by their own names, float32, and nothing
    is rendered. An episode ends by its time limit of 1000 control steps (`is_last` alone); the
    two `lqr` tasks have none.

    Args:
        task: domain and task, `cartpole_swingup`, `ball_in_cup_catch` …
        pixels: observe only the picture of a camera, as `image`.
        size: height and width of the image.
        repeat: control steps an action lasts; their rewards are summed. Published DMC curves count
            control steps.
        camera: index or name of the camera; None is 0, and 2 for the quadruped.
        shadows: render them; without, rendering on a CPU is several times faster, and the image
            another.
        features: methods of the domain's physics that give a number, such as `torso_height` of the
            walker. The observation `feat/torso_height` holds it after each of the `repeat` control
            steps, and `feat/lived` 1 for each that was made: none at a reset, fewer at the end.
            They are for targets and rewards; an agent is not to see them.

    Raises:
        ImportError: dm_control is missing.
        ValueError: an unknown task, camera or feature, or a number out of range.
        RuntimeError: something is to be rendered, and this machine has nothing for it.

    Source: Tassa et al. 2018; `embodied/envs/dmc.py` of danijar/dreamerv3 (cameras, repeat).
    """
    at_least_one("wb.envs.dmc", size=size, repeat=repeat)
    # quadruped_escape gives its terrain to OpenGL at each reset, seen or not. And what MUJOCO_GL
    # names, dm_control imports.
    if pixels or task == "quadruped_escape" or os.environ.get("MUJOCO_GL"):
        choose_backend(f"wb.envs.dmc({task!r}, pixels={pixels})")
    suite = _suite()
    names = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
    if task not in names:
        close = difflib.get_close_matches(str(task).lower().replace("-", "_"), names, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else "dm_control.suite.ALL_TASKS lists them"
        raise ValueError(f"unknown DeepMind Control task {task!r}; {hint}")
    domain, name = names[task]
    # A few tasks draw their model when they are loaded: the same one in every process.
    env = suite.load(domain, name, task_kwargs={"random": 0})
    camera = _CAMERAS.get(domain, 0) if camera is None else camera
    if pixels:
        _check_camera(env.physics.model, task, camera)
    if unknown := [one for one in features if not hasattr(env.physics, one)]:
        there = sorted(one for one in vars(type(env.physics)) if not one.startswith("_"))
        raise ValueError(f"{task} has no features {unknown}; its physics has {there}")
    options: dict[str, Any] = {"camera": camera, "shadows": shadows, "features": features}
    return Control(env, pixels=pixels, size=size, repeat=repeat, **options)


class Control:
    """A task of the suite behind our protocol; built by `dmc`, which explains the arguments.

    An episode follows from the seed of its reset and its actions exactly, whatever was played
    before. It has no state of its own: `get_state()` is None, and a vector plays the episode again
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
        """dm_control's physics of the task, to read from."""
        return self._env.physics

    def reset(self, seed: int) -> Step:
        """Begin an episode, drawn from `seed` alone."""
        self._env.task.random.seed(seed)
        moment = self._env.reset()
        self._over = False
        return Step(self._shown(moment.observation, []), 0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do `action["action"]`, clipped to [-1, 1], for `repeat` control steps."""
        if self._over:
            raise ValueError(
                "asked a DeepMind Control task for a step, but no episode is under way; "
                "reset(seed) begins one"
            )
        share = (np.clip(action["action"], -1.0, 1.0).astype(np.float64) + 1) / 2
        theirs = self._low * (1 - share) + self._high * share
        moment = self._env.step(theirs)
        reward, lived = float(moment.reward), [self._now()]
        for _ in range(self._repeat - 1):
            if moment.last():
                break
            moment = self._env.step(theirs)
            reward += float(moment.reward)
            lived.append(self._now())
        self._over = moment.last()
        terminal = self._over and bool(moment.discount == 0)
        return Step(self._shown(moment.observation, lived), reward, False, self._over, terminal)

    def _now(self) -> list[float]:
        """The features after a control step."""
        return [float(getattr(self._env.physics, name)()) for name in self._features]

    def _shown(self, values: dict[str, Any], lived: list[list[float]]) -> dict[str, np.ndarray]:
        if self._pixels:
            shown = {"image": self._env.physics.render(**self._view)}
        else:
            seen = [key for key in self.observation if not key.startswith(PREFIX)]
            shown = {key: np.array(values[key], np.float32) for key in seen}
        if self._features:
            rows = np.zeros((self._repeat, len(self._features) + 1), np.float32)
            rows[: len(lived)] = [[*row, 1.0] for row in lived] or 0.0
            names = [PREFIX + name for name in [*self._features, "lived"]]
            shown |= zip(names, rows.T, strict=True)
        return shown

    def get_state(self) -> None:
        """None: the episode is played again instead."""

    def set_state(self, state: bytes) -> None:
        """Refused: there is no state that could be given."""
        raise ValueError(
            "asked a DeepMind Control task to continue from a state; it has none (get_state() is "
            "None), so reset(seed) and play the actions again"
        )

    def close(self) -> None:
        """Release the simulator and its window."""
        self._env.close()


def _suite() -> Any:
    try:
        with warnings.catch_warnings():
            # Without a display the import tries a window and complains; nothing renders there.
            warnings.simplefilter("ignore")
            from dm_control import suite
    except ModuleNotFoundError as cause:
        raise ImportError(
            "wb.envs.dmc needs the extra 'dmc': pip install \"worldblocks[dmc]\""
        ) from cause
    return suite


def _check_camera(model: Any, task: str, camera: int | str) -> None:
    names = [model.id2name(i, "camera") for i in range(model.ncam)]
    if camera not in names and camera not in range(-1, len(names)):
        raise ValueError(
            f"wb.envs.dmc got camera={camera!r} for {task}; it has the cameras {names}, 0 to "
            f"{len(names) - 1}, and the free one, -1"
        )
