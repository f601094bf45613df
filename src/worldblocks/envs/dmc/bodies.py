"""Features of bodies of the DeepMind Control suite, and phrases that describe what they can do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from worldblocks.envs.dmc.control import dmc
from worldblocks.envs.features import Feature, Featured, Goal
from worldblocks.envs.record import Environment
from worldblocks.envs.rendering import choose_backend


@dataclass(frozen=True)
class Body:
    """The features of a body and its phrases.

    Attributes:
        features: the usual range of each feature.
        read: reads the values from dm_control's physics, in the order of `features`.
        phrases: tasks in words, each with an expression of the features (`wb.language`).
        helpers: phrases that describe how to do a task; alone they would reward doing nothing.
    """

    features: dict[str, Feature]
    read: Callable[[Any], tuple[float, ...]]
    phrases: dict[str, str]
    helpers: tuple[str, ...] = ("use little energy",)


_EFFORT = Feature(0.0, 1.0)  # mean square of the motors' signals
_SAVE = {"use little energy": "below(effort, 0.05, 0.5)"}


def _effort(physics: Any) -> float:
    return float(np.mean(np.square(physics.control())))


def _walker(physics: Any) -> tuple[float, ...]:
    frame = physics.named.data.xmat["torso"]
    rising = physics.named.data.sensordata["torso_subtreelinvel"][2]
    torso = physics.torso_height(), physics.torso_upright(), frame[2]
    return (*torso, physics.horizontal_velocity(), rising, _effort(physics))


def _cheetah(physics: Any) -> tuple[float, ...]:
    height, upright = physics.named.data.xpos["torso", "z"], physics.named.data.xmat["torso", "zz"]
    rising = physics.named.data.qvel["rootz"]
    return height, upright, physics.speed(), rising, _effort(physics)


def _hopper(physics: Any) -> tuple[float, ...]:
    upright, rising = physics.named.data.xmat["torso", "zz"], physics.named.data.qvel["rootz"]
    return physics.height(), upright, physics.speed(), rising, _effort(physics)


def _cartpole(physics: Any) -> tuple[float, ...]:
    cosine, turn = physics.pole_angle_cosine().item(), physics.angular_vel().item()
    slide = physics.named.data.qvel["slider"]
    return physics.cart_position(), slide, cosine, turn, _effort(physics)


BODIES = {
    "walker": Body(
        {
            "height": Feature(0.0, 1.6),  # of the torso, in metres
            "upright": Feature(-1.0, 1.0),  # cosine of the torso to the vertical
            "lean": Feature(-1.0, 1.0),  # sine of it, forward above 0
            "speed": Feature(-6.0, 10.0),  # of the centre of mass, m/s
            "rising": Feature(-3.0, 3.0),
            "effort": _EFFORT,
        },
        _walker,
        {
            "stand up straight": "above(height, 1.2, 0.6) * (1 + upright) / 2",
            "crouch low": "near(height, 0.7, 0.15) * above(upright, 0.6, 1)",
            "lie down on the ground": "below(height, 0.3, 0.8)",
            "walk forward": "above(height, 1.2, 0.6) * near(speed, 1, 0.5)",
            "run forward fast": "above(height, 1.2, 0.9) * above(speed, 8, 8)",
            "walk backward": "above(height, 1.2, 0.6) * near(speed, -1, 0.5)",
            "run backward fast": "above(height, 1.2, 0.9) * below(speed, -5, 5)",
            "stay in place": "above(height, 0.6) * near(speed, 0, 0.3)",
            "lean forward": "above(height, 0.8, 0.4) * near(lean, 0.5, 0.2)",
            "jump up": "above(rising, 1.5, 1.5)",
            "turn upside down": "below(upright, -0.9, 1.9)",
            **_SAVE,
        },
    ),
    "cheetah": Body(
        {
            "height": Feature(0.0, 1.5),
            "upright": Feature(-1.0, 1.0),
            "speed": Feature(-6.0, 10.0),
            "rising": Feature(-3.0, 3.0),
            "effort": _EFFORT,
        },
        _cheetah,
        {
            "run forward fast": "above(speed, 10, 10)",
            "trot forward slowly": "near(speed, 2, 1)",
            "run backward fast": "below(speed, -6, 6)",
            "stay in place": "near(speed, 0, 0.3) * above(upright, 0.5, 1)",
            "flip onto the back": "below(upright, -0.9, 1.9)",
            "jump up": "above(rising, 2, 2)",
            "lie flat on the ground": "below(height, 0.3, 0.3) * near(speed, 0, 0.5)",
            **_SAVE,
        },
    ),
    "hopper": Body(
        {
            "height": Feature(0.0, 2.0),
            "upright": Feature(-1.0, 1.0),
            "speed": Feature(-4.0, 4.0),
            "rising": Feature(-3.0, 3.0),
            "effort": _EFFORT,
        },
        _hopper,
        {
            "stand up straight": "above(height, 0.6, 0.6) * (1 + upright) / 2",
            "hop forward": "above(height, 0.6, 0.6) * above(speed, 2, 2)",
            "hop backward": "above(height, 0.6, 0.6) * below(speed, -2, 2)",
            "jump high": "above(rising, 2, 2)",
            "crouch low": "near(height, 0.4, 0.15) * above(upright, 0.6, 1)",
            "lie down on the ground": "below(upright, 0.2, 1) * below(height, 0.3, 0.6)",
            "stay in place": "near(speed, 0, 0.2) * above(upright, 0.6, 1)",
            **_SAVE,
        },
    ),
    "cartpole": Body(
        {
            "position": Feature(-1.8, 1.8),  # of the cart, in metres, right above 0
            "slide": Feature(-5.0, 5.0),  # its velocity
            "upright": Feature(-1.0, 1.0),  # cosine of the pole to the vertical
            "turn": Feature(-15.0, 15.0),  # velocity of the pole, rad/s
            "effort": _EFFORT,
        },
        _cartpole,
        {
            "balance the pole upright": "(1 + upright) / 2 * near(turn, 0, 4)",
            "let the pole hang down": "(1 - upright) / 2 * near(turn, 0, 4)",
            "keep the cart in the middle": "near(position, 0, 0.3)",
            "move the cart to the left": "near(position, -1.2, 0.4)",
            "move the cart to the right": "near(position, 1.2, 0.4)",
            "spin the pole fast": "above(abs(turn), 12, 12)",
            "keep the pole still": "near(turn, 0, 0.5)",
            **_SAVE,
        },
    ),
}
"""The body of each supported domain of the Control Suite."""


class ControlText:
    """Describes a body of the suite: its features, and sentences with their values.

    Args:
        name: a key of `BODIES`.
        physics: dm_control's physics of the task.
    """

    def __init__(self, name: str, physics: Any) -> None:
        self.body, self._physics = body(name), physics
        self.ranges = self.body.features

    def features(self, is_first: bool) -> dict[str, float]:
        """The value of each feature at this row; `effort` belongs to the action before it."""
        values = self.body.read(self._physics)
        return {k: np.asarray(v).item() for k, v in zip(self.ranges, values, strict=True)}

    def describe(self) -> list[str]:
        """One sentence for each feature."""
        return [f"The {name} is {value:.2f}" for name, value in self.features(False).items()]

    def events(self) -> list[str]:
        """Empty: a body has no single events."""
        return []

    def candidates(self) -> list[Goal]:
        """Empty: tasks of a body are the phrases of its menu, not goals."""
        return []

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """The body from its first camera.

        Raises:
            RuntimeError: this machine has no OpenGL.
        """
        choose_backend("a picture of a body")
        return self._physics.render(height=240, width=320, camera_id=0)


def body(name: str) -> Body:
    """A body of `BODIES` by its name.

    Raises:
        ValueError: the name is not in `BODIES`.
    """
    if name not in BODIES:
        raise ValueError(f"no features are known of the body {name!r}; of {', '.join(BODIES)} are")
    return BODIES[name]


def dmc_features(task: str, **options: Any) -> Environment:
    """A task of the suite (see `dmc`) with the features of its body as `feat/<name>`.

    Raises:
        ValueError: the body is not in `BODIES`, or `dmc` does not know the task.
    """
    name = task.split("_")[0]
    body(name)
    env = dmc(task, **options)
    return Featured(env, ControlText(name, env.physics))
