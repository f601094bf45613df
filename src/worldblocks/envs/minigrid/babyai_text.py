"""MiniGrid in words and bits: observations, events and goals.

The sentences follow BabyAI-Text (Carta et al. 2023, "Grounding Large Language Models in Interactive
Environments with Online Reinforcement Learning"). The environment is only read, never changed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from worldblocks.envs.features import Feature, Goal

COLORS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("key", "ball", "box", "door")
VERBS = {"go to": "at", "pick up": "carry", "open": "open"}
_DID = {"at": "reached", "carry": "picked up", "open": "opened"}


class MiniGridText:
    """Describes a MiniGrid environment: sentences, events, and features that are 0 or 1.

    Each verb and each coloured object that it applies to have two features. One is whether the fact
    holds now (`at_red_ball`: in front of the agent; `carry_red_ball`; `open_red_door`;
    `next_red_ball_blue_box`). The other is whether it was achieved in this episode
    (`done_at_red_ball` …); it stays 1, so that a single row shows it, even an imagined one.
    As in BabyAI, an object that the agent faces at the start counts as reached only after a step.

    Args:
        env: a `MiniGridEnv`, or a wrapper of one.
        verbs: some of `go to`, `pick up`, `open`.
        colors, kinds: of objects; fewer give fewer features.
        pairs: objects to put next to each other, such as `("red ball", "blue box")`.

    Raises:
        ValueError: MiniGrid does not have the word, or no verb applies to any object.
    """

    def __init__(
        self,
        env: Any,
        *,
        verbs: Sequence[str] = tuple(VERBS),
        colors: Sequence[str] = COLORS,
        kinds: Sequence[str] = KINDS,
        pairs: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._env = env.unwrapped
        nouns = [f"{color} {kind}" for color in COLORS for kind in KINDS]
        _check("verb", verbs, VERBS)
        _check("colour", colors, COLORS)
        _check("kind", kinds, KINDS)
        _check("object", [noun for pair in pairs for noun in pair], nouns)
        chosen = [f"{color} {kind}" for color in colors for kind in kinds]
        self._facts = {
            _name(VERBS[verb], noun): f"{verb} the {noun}"
            for verb in verbs
            for noun in chosen
            if verb == "go to" or (verb == "open") == noun.endswith("door")
        }
        for a, b in pairs:
            self._facts[_name("next", a, b)] = f"put the {a} next to the {b}"
        if not self._facts:
            raise ValueError(
                f"nothing can be done: {verbs} to {kinds}; only doors can be opened, all other "
                f"objects picked up, and the agent can go to everything"
            )
        bit = Feature(0.0, 1.0, bit=True)
        names = [*self._facts, *(f"done_{name}" for name in self._facts)]
        self.ranges = dict.fromkeys(names, bit)
        self._true: set[str] = set()
        self._done: set[str] = set()
        self._new: list[str] = []

    @property
    def goals(self) -> list[Goal]:
        """The goals of all features, whether or not their objects are in the grid."""
        return [Goal(phrase, f"done_{name}") for name, phrase in self._facts.items()]

    def features(self, is_first: bool) -> dict[str, float]:
        """The value of each feature at this row; call it exactly once for every row."""
        before, self._true = self._true, set(self._facts_now())
        if is_first:
            self._done, now = set(), set()
        else:
            now = {x for x in self._true if x.startswith("at_") or x not in before} - self._done
        self._done |= now
        self._new = [name for name in self._facts if name in now]
        true = self._true | {f"done_{name}" for name in self._done}
        return {name: float(name in true) for name in self.ranges}

    def events(self) -> list[str]:
        """The goals achieved at the last row for the first time in the episode."""
        return [_past(name, self._facts[name]) for name in self._new]

    def candidates(self) -> list[Goal]:
        """The goals whose objects are in the grid now."""
        present = {f"{o.color} {o.type}" for _, o in self._objects()} | self._carried()
        absent = {f"{color} {kind}" for color in COLORS for kind in KINDS} - present
        return [g for g in self.goals if not any(f"the {noun}" in g.phrase for noun in absent)]

    def describe(self) -> list[str]:
        """What the agent sees, with its distance forward and to the side, and what it carries."""
        grid, visible = self._env.gen_obs_grid()
        middle, bottom = grid.width // 2, grid.height - 1
        lines = []
        for y in range(bottom, -1, -1):
            for x in range(grid.width):
                thing = grid.get(x, y)
                named = thing is not None and thing.type in KINDS and (x, y) != (middle, bottom)
                if named and visible[x, y]:
                    lines.append(f"You see {_thing(thing)} {_where(bottom - y, x - middle)}")
        for forward, right in ((1, 0), (0, -1), (0, 1)):
            lines += _wall(grid, visible, forward, right)
        carried = self._env.carrying
        return lines + ([f"You carry {_thing(carried)}"] if carried is not None else [])

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """The whole grid; the fields that the agent sees are lighter."""
        return self._env.get_frame(highlight=True, tile_size=32)

    @property
    def mission(self) -> str:
        """The mission of this episode."""
        return self._env.mission

    def _facts_now(self) -> Iterator[str]:
        ahead = self._env.grid.get(*self._env.front_pos)
        true = [_name("carry", noun) for noun in self._carried()]
        if ahead is not None:
            true.append(_name("at", f"{ahead.color} {ahead.type}"))
        places: dict[str, list[tuple[int, int]]] = {}
        for place, thing in self._objects():
            places.setdefault(f"{thing.color} {thing.type}", []).append(place)
            if thing.type == "door" and thing.is_open:
                true.append(_name("open", f"{thing.color} door"))
        pairs = [name for name in self._facts if name.startswith("next_")]
        true += [name for name in pairs if _touch(name, places)]
        return (name for name in true if name in self._facts)

    def _objects(self) -> Iterator[tuple[tuple[int, int], Any]]:
        grid = self._env.grid
        for index, thing in enumerate(grid.grid):
            if thing is not None and thing.type in KINDS:
                yield (index % grid.width, index // grid.width), thing

    def _carried(self) -> set[str]:
        thing = self._env.carrying
        return {f"{thing.color} {thing.type}"} if thing is not None else set()


def _name(what: str, *nouns: str) -> str:
    return "_".join([what, *(noun.replace(" ", "_") for noun in nouns)])


def _touch(name: str, places: dict[str, list[tuple[int, int]]]) -> bool:
    """Whether the objects of a pair are adjacent, not diagonally."""
    a, b = (" ".join(part) for part in zip(*[iter(name.split("_")[1:])] * 2, strict=True))
    near = [abs(x - u) + abs(y - v) for x, y in places.get(a, []) for u, v in places.get(b, [])]
    return 1 in near


def _past(name: str, phrase: str) -> str:
    verb = name.split("_")[0]
    if verb == "next":
        return phrase  # "put" is its own past
    return f"{_DID[verb]} the {phrase.split(' the ')[1]}"


def _thing(thing: Any) -> str:
    """An object with its article: `an open red door`, `a blue key`."""
    if thing.type == "door":
        state = "open" if thing.is_open else "locked" if thing.is_locked else "closed"
        return f"{'an' if state == 'open' else 'a'} {state} {thing.color} door"
    return f"a {thing.color} {thing.type}"


def _wall(grid: Any, visible: Any, forward: int, right: int) -> list[str]:
    """The nearest wall straight ahead or to a side, if it is visible."""
    x, y = grid.width // 2, grid.height - 1
    for steps in range(1, grid.height):
        x, y = x + right, y - forward
        if not (0 <= x < grid.width and y >= 0):
            break
        thing = grid.get(x, y)
        if thing is not None and thing.type == "wall":
            seen = visible[x, y]
            return [f"You see a wall {_where(steps * forward, steps * right)}"] if seen else []
    return []


def _where(forward: int, right: int) -> str:
    side = _steps(abs(right), "right" if right > 0 else "left") if right else ""
    ahead = _steps(forward, "forward") if forward else ""
    return " and ".join(part for part in (ahead, side) if part)


def _steps(count: int, way: str) -> str:
    return f"{count} step{'s' * (count > 1)} {way}"


def _check(what: str, given: Sequence[str], known: Any) -> None:
    for word in given:
        if word not in known:
            raise ValueError(f"MiniGrid has no {what} {word!r}; it has {', '.join(known)}")
