"""Menus: phrases with fixed rewards, from which a language model chooses.

Small language models rank phrases well but write wrong rewards, so the environment defines the
reward of each phrase.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.envs import BODIES, Feature, Goal
from worldblocks.envs.dmc.bodies import body
from worldblocks.language.rewards.spec import RewardSpec, RewardTerm

ROWS = 256  # of a sample over the whole ranges


class Menu(Protocol):
    """Phrases to choose from, each with a reward."""

    @property
    def phrases(self) -> list[str]:
        """The items, as a language model sees them."""
        ...

    @property
    def ranges(self) -> Mapping[str, Feature]:
        """The features that rewards may use."""
        ...

    def spec(self, phrase: str, *more: str, instruction: str = "", **source: Any) -> RewardSpec:
        """The reward of one phrase or several."""
        ...

    def specs(self, phrases: Sequence[str], instruction: str = "") -> list[RewardSpec]:
        """A reward for each phrase of a ranking, best first."""
        ...


class TermMenu:
    """Phrases with expressions over the features of a body.

    A helper (`use little energy`) describes a manner, not a task: doing nothing would earn all of
    it. It is refused alone; with another phrase its weight is 1/4.

    Args:
        phrases: the expression of each phrase.
        ranges: the range of each feature.
        helpers: phrases that cannot stand alone.

    Raises:
        ExpressionError: an expression is invalid for these features.
        ValueError: a helper is not on the menu, every phrase is a helper, or a phrase is blank.

    >>> walker_menu = body_menu("walker")
    >>> [term.expr for term in walker_menu.spec("jump up").terms]
    ['above(rising, 1.5, 1.5)']
    """

    def __init__(
        self,
        phrases: Mapping[str, str],
        ranges: Mapping[str, Feature],
        *,
        helpers: Sequence[str] = (),
    ) -> None:
        self._exprs, self.ranges, self.helpers = dict(phrases), dict(ranges), tuple(helpers)
        if not set(helpers) < set(phrases):
            raise ValueError(
                f"a menu needs its helpers {list(helpers)} and a phrase that is not one of them, "
                f"got the phrases {list(phrases)}"
            )
        if blank := [phrase for phrase in phrases if not phrase.strip()]:
            raise ValueError(
                f"a phrase of a menu says what to do, got {blank[0]!r} among {list(phrases)[:6]}"
            )
        rows = sample_features(self.ranges)
        for phrase, expr in phrases.items():
            RewardSpec((RewardTerm(expr, 1.0, phrase),)).compile(rows)

    @property
    def phrases(self) -> list[str]:
        """The items, as a language model sees them."""
        return list(self._exprs)

    def spec(self, phrase: str, *more: str, instruction: str = "", **source: Any) -> RewardSpec:
        """The reward of one phrase or several.

        Raises:
            ValueError: a phrase is not on the menu, or all of them are helpers.
        """
        chosen = [phrase, *more]
        for one in chosen:
            check_phrase(one, self.phrases)
        if set(chosen) <= set(self.helpers):
            raise ValueError(
                f"{chosen} alone rewards doing nothing; add one of "
                f"{[p for p in self._exprs if p not in self.helpers]}"
            )
        weights = {one: 0.25 if one in self.helpers else 1.0 for one in chosen}
        terms = tuple(RewardTerm(self._exprs[one], weights[one], one) for one in weights)
        return RewardSpec(terms, instruction, source)

    def specs(self, phrases: Sequence[str], instruction: str = "") -> list[RewardSpec]:
        """A reward for each phrase of a ranking, best first; a helper joins the best other one."""
        best = next(p for p in (*phrases, *self._exprs) if p not in self.helpers)
        pairs = [(p, best) if p in self.helpers else (p,) for p in phrases]
        return [self.spec(*pair, instruction=instruction) for pair in pairs]


class GoalMenu(TermMenu):
    """Goals of an environment; each gives a reward only in the row in which it is achieved.

    Args:
        goals: from the environment's describer; `candidates()` lists those of this episode.

    Raises:
        ValueError: there is no goal, or two have the same phrase.

    >>> menu = GoalMenu([Goal("open the red door", "done_open_red_door")])
    >>> [term.expr for term in menu.spec("open the red door").terms]
    ['rise(done_open_red_door)']
    """

    def __init__(self, goals: Sequence[Goal]) -> None:
        exprs = {goal.phrase: f"rise({goal.feature})" for goal in goals}
        if len(exprs) < len(goals) or not goals:
            raise ValueError(
                f"a menu has one or more goals with different phrases, got {list(goals)}"
            )
        bit = Feature(0.0, 1.0, bit=True)
        super().__init__(exprs, {goal.feature: bit for goal in goals})


def body_menu(name: str) -> TermMenu:
    """The menu of a body of the DeepMind Control suite: walker, cheetah, hopper or cartpole.

    Raises:
        ValueError: the body is unknown.
    """
    known = body(name)
    return TermMenu(known.phrases, known.features, helpers=known.helpers)


def menu_of(name: str, env: Any) -> TermMenu:
    """The menu of an environment: that of its body, or of the goals it describes.

    Raises:
        ValueError: the environment describes no goals, or has none in this episode.
    """
    domain = name.split("_")[0]
    if domain in BODIES:
        return body_menu(domain)
    describer: Any = getattr(env, "describer", None)
    if not hasattr(describer, "candidates"):
        raise ValueError(
            f"{name} has no menu: nothing describes its goals; menus have {', '.join(BODIES)} and "
            f"the levels of BabyAI and MiniGrid with objects"
        )
    if not (goals := describer.candidates()):
        raise ValueError(
            f"{name} has no goal for a menu: no key, ball, box or door of this episode goes with "
            f"the verbs of its describer; use a level with objects, such as "
            f"BabyAI-GoToLocalS5N2-v0, or other verbs (--verbs)"
        )
    return GoalMenu(goals)


def sample_features(
    ranges: Mapping[str, Feature], rows: int = ROWS, seed: int = 0
) -> dict[str, Float[Tensor, " time"]]:
    """Independent values over the whole range of each feature, as a sample for `compile`.

    Numbers are uniform over the range, bits 0 or 1.
    """
    draw = torch.Generator().manual_seed(seed)
    values = {}
    for name, (low, high, bit) in ranges.items():
        share = torch.rand(rows, generator=draw)
        values[name] = low + (high - low) * (share.round() if bit else share)
    return values


def check_phrase(phrase: str, phrases: Sequence[str]) -> None:
    """Refuse a phrase that is not on a menu; suggests the nearest."""
    if phrase not in phrases:
        close = difflib.get_close_matches(str(phrase)[:80], phrases, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(phrases[:20])}"
        raise ValueError(f"the menu has no {phrase!r}; {hint}")
