"""A toy world in place of every environment that a recipe makes."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import worldblocks as wb
from worldblocks.envs import Feature, Goal, Step
from worldblocks.spaces import Continuous, Discrete, Image

FEATURES = ("done_red", "done_green", "done_blue")  # of GLAM's toy, one for each phrase


class Toy:
    """Observes `chance`, drawn at the reset, and the time. Action `who` pays 1, for 3 to 6 steps.

    Half of the episodes terminate, the others reach a time limit. `made` holds the arguments of
    the factory; each reset is noted in `log`.
    """

    def __init__(self, log: list[Any], made: dict[str, Any], image: bool, features=()):
        talks = made["factory"] == "minigrid" and "words" not in made  # for `glam_policy`
        self.action: Any = {"action": Discrete(7 if talks else 3)}
        self.observation: Any = {"vector": Continuous((2,))}
        self.observation |= {"image": Image(48, 48, 1)} if image else {}
        self.observation |= {f"feat/{name}": Continuous(shape) for name, shape in features}
        self.log, self.made, self.describer = log, made, Describer(self)
        homes = [event.envs for event in log if event.name == "open"]
        self.home = homes[-1] if homes else None  # the vector it belongs to

    def reset(self, seed: int) -> Step:
        self.log.append(SimpleNamespace(name="reset", toy=self, seed=seed))
        self.chance, self.when = np.random.default_rng(seed).uniform(), 0
        self.who, self.length = int(3 * self.chance), 3 + int(40 * self.chance) % 4
        return self.row(-1)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        self.when += 1
        return self.row(int(action["action"]))

    def row(self, did: int) -> Step:
        obs: dict[str, Any] = {"vector": np.array([self.chance, self.when], np.float32)}
        if "image" in self.observation:
            obs["image"] = np.full((48, 48, 1), 40 * self.when, np.uint8)
            obs["image"][0, :4, 0] = np.frombuffer(np.float32(self.chance).tobytes(), np.uint8)
        for name, space in self.observation.items():
            if name.startswith("feat/"):
                obs[name] = np.full(space.shape, self.feature(name[5:], did), np.float32)
        over, limit = self.when == self.length, int(20 * self.chance) % 2 == 0
        return Step(obs, float(did == self.who), not self.when, over, over and not limit)

    def feature(self, name: str, did: int) -> float:
        """GLAM: 1 for the action just taken. Control: a growing distance, and a constant."""
        if name in FEATURES:
            return float(FEATURES[did : did + 1] == (name,))
        return 0.02 * self.when if name == "finger_to_target_dist" else 1.0 - 0.1 * self.chance

    def get_state(self) -> None:
        return None

    def close(self) -> None:
        pass


class Describer:
    """Describes GLAM's toy."""

    mission = "touch red"

    def __init__(self, toy: Toy) -> None:
        self.toy = toy

    @property
    def ranges(self) -> dict[str, Feature]:
        return {name: Feature(0.0, 1.0, bit=True) for name in FEATURES}

    def candidates(self) -> list[Goal]:
        return [Goal(f"touch {name.removeprefix('done_')}", name) for name in FEATURES]

    def describe(self) -> list[str]:
        return [f"You see door {self.toy.chance:.6f}, {self.toy.when} times"]

    def frame(self) -> None:
        raise RuntimeError("nothing to render with")


def toys(log: list[Any], *, image: bool = False) -> dict[str, Callable[..., Any]]:
    """Toys in place of the environment factories, by name."""
    reach = [("finger_to_target_dist", (1,)), ("lived", (1,))]
    reach += [(name, ()) for name in wb.language.body_menu("cartpole").ranges]

    def make(factory: str, features: Any = ()):
        def factory_of_toys(what: str, **options: Any) -> Toy:
            used = features if options.get("relabel", True) else ()
            return Toy(log, {"factory": factory, "what": what, **options}, image, used)

        return factory_of_toys

    names = {f"envs.{name}": make(name) for name in ("atari", "dmc", "gym")}
    glam = make("minigrid", [(name, ()) for name in FEATURES])
    names |= {"envs.dmc_features": make("dmc_features", reach)}
    return names | {"envs.minigrid": glam, "tasks.control": make("control", reach)}
