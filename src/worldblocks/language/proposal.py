"""Candidate rewards for an instruction, saved with the run that tests them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from worldblocks.language.ranking.named import ranker
from worldblocks.language.ranking.ranking import MOST_CHARACTERS, Ranking
from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.menu import Menu, sample_features
from worldblocks.language.rewards.spec import RewardSpec
from worldblocks.run.saves.durable import replace_text

FILE = "proposal.json"
TOP = 8  # candidates in `shown`


class Proposal(NamedTuple):
    """Candidate rewards for an instruction, best first.

    Attributes:
        instruction: the instruction.
        by: the `reward` argument of `propose`.
        phrases: the menu's phrase of each candidate.
        scores: the ranking's score of each candidate.
        prior: the prior probability that each candidate is right.
        specs: the rewards; None is the environment's own reward.
    """

    instruction: str
    by: str
    phrases: list[str]
    scores: list[float]
    prior: list[float]
    specs: list[RewardSpec | None]

    def save(self, run: Path | str) -> Path:
        """Write `proposal.json` into a run folder."""
        data = self._asdict()
        data["specs"] = [spec and json.loads(spec.to_json()) for spec in self.specs]
        path = Path(run) / FILE
        replace_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, run: Path | str) -> "Proposal":
        """Read `proposal.json` from a run folder; no model is asked again.

        Raises:
            FileNotFoundError: the file is missing.
            ExpressionError: a spec is invalid.
        """
        path = Path(run) / FILE
        if not path.exists():
            raise FileNotFoundError(
                f"nothing was proposed in {run}, which has no {FILE}; give the folder of a run "
                f"that has one"
            )
        data = json.loads(path.read_text(encoding="utf-8"))
        specs = [spec and RewardSpec.from_json(json.dumps(spec)) for spec in data["specs"]]
        return cls(**{**data, "specs": specs})

    def compile(self, menu: Menu) -> list[RewardFunction | None]:
        """The reward functions, scaled on the whole ranges of the menu's features.

        Raises:
            ExpressionError: a spec uses other features.
        """
        sample = sample_features(menu.ranges)
        return [spec and spec.compile(sample) for spec in self.specs]

    def shown(self) -> str:
        """The instruction and the best candidates with scores and prior, as text."""
        lines = [f"instruction: {self.instruction}", f"candidates by {self.by}:"]
        rows = list(zip(self.phrases, self.scores, self.prior, strict=True))
        lines += [f"  {score:7.2f}  {share:6.1%}  {phrase}" for phrase, score, share in rows[:TOP]]
        return "\n".join([*lines, *([f"  and {len(rows) - TOP} more"] if rows[TOP:] else [])])


def propose(
    reward: str,
    menu: Menu,
    *,
    instruction: str,
    mission: str = "",
    cache: Path | str = "",
    offline: bool = False,
    seed: int = 0,
    old: Path | str = "",
) -> Proposal:
    """Candidate rewards for an instruction, with a prior.

    | `reward` | candidates | prior |
    |---|---|---|
    | `llm` | the menu, ranked by `Selector` | from the ranking |
    | `uniform` | the menu | uniform |
    | `llm-fixed`, `embedding`, `random` | the best of the ranking (`ranker`) | 1 |
    | `oracle` | the phrase that equals the mission | 1 |
    | `none` | the environment's own reward | 1 |

    Args:
        reward: how to choose, as above.
        menu: the phrases and their rewards.
        instruction: the instruction.
        mission: the environment's mission; if empty, the oracle uses the instruction.
        cache, offline, seed: see `ranker`.
        old: a run folder whose proposal is loaded instead.

    Raises:
        FileNotFoundError: `old` has no proposal.
        ValueError: an unknown kind, an empty or overlong instruction, or a mission that is not on
            the menu (`oracle`).
        LanguageError: a model is not installed, or failed.

    >>> from worldblocks.language.rewards.menu import body_menu
    >>> found = propose("oracle", body_menu("walker"), instruction="jump up")
    >>> found.phrases, found.prior, found.specs[0].terms[0].expr
    (['jump up'], [1.0], 'above(rising, 1.5, 1.5)')
    """
    if old:
        return Proposal.load(old)
    if reward == "none":
        return Proposal(instruction, reward, ["none"], [0.0], [1.0], [None])
    by = ranker(reward.removesuffix("-fixed"), cache=cache, offline=offline, seed=seed)
    asked = mission if reward == "oracle" and mission else instruction
    ranking = by.rank(asked, menu.phrases)
    keep = None if reward in ("llm", "uniform") else 1
    phrases, scores = ranking.items[:keep], ranking.scores[:keep]
    prior = Ranking(phrases, scores).prior()
    specs = [
        RewardSpec(spec.terms, instruction, {"by": reward, "score": score})
        for spec, score in zip(menu.specs(phrases), scores, strict=True)
    ]
    return Proposal(instruction, reward, phrases, scores, prior, list(specs))


def settle(env: Any, instruction: str, mission: str, *, seed: int) -> dict[str, str]:
    """The `instruction` and the `mission` of a run, with defaults from an episode.

    Args:
        env: an environment with a describer, which may have a `mission`; it is reset.
        instruction: the instruction; "" takes the mission.
        mission: the environment's mission; "" takes that of the episode.
        seed: for the reset.

    Raises:
        ValueError: there is neither an instruction nor a mission, or one is blank or too long.
    """
    for option, text in {"instruction": instruction, "mission": mission}.items():
        if text and not text.strip():
            raise ValueError(
                f"--{option} {text!r} is blank; write one, or leave it out to take that of the "
                f"first episode"
            )
        if len(text) > MOST_CHARACTERS:
            raise ValueError(
                f"--{option} {text[:40]!r}… has {len(text)} characters; use {MOST_CHARACTERS} or "
                f"fewer"
            )
    env.reset(seed)
    mission = mission or getattr(env.describer, "mission", "")
    if not (instruction or mission).strip():
        raise ValueError("this environment has no mission of its own; give an --instruction")
    return {"instruction": instruction or mission, "mission": mission}
