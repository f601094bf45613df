"""What is proposed for an instruction, kept with the run that tests it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from worldblocks.language.ranking.named import ranker
from worldblocks.language.ranking.ranking import Ranking
from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.menu import Menu, sample_features
from worldblocks.language.rewards.spec import RewardSpec
from worldblocks.run.durable import replace_text

FILE = "proposal.json"


class Proposal(NamedTuple):
    """Candidate rewards for an instruction, best first.

    Attributes:
        instruction: what was asked.
        by: who ranked them.
        phrases: of the menu, one a candidate.
        scores: of the ranking.
        prior: the probability that each is what was meant.
        specs: the rewards; None is the environment's own.
    """

    instruction: str
    by: str
    phrases: list[str]
    scores: list[float]
    prior: list[float]
    specs: list[RewardSpec | None]

    def save(self, run: Path | str) -> Path:
        """Write it as `proposal.json` into a run folder."""
        data = self._asdict()
        data["specs"] = [spec and json.loads(spec.to_json()) for spec in self.specs]
        path = Path(run) / FILE
        replace_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, run: Path | str) -> "Proposal":
        """Read what `save` wrote: no model is asked again.

        Raises:
            FileNotFoundError: there is none.
            ExpressionError: a spec is none.
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
        """Each reward as a function of features, scaled on their whole ranges.

        Raises:
            ExpressionError: a spec is not of the menu's features.
        """
        sample = sample_features(menu.ranges)
        return [spec and spec.compile(sample) for spec in self.specs]

    def shown(self, top: int = 8) -> str:
        """The instruction and the best candidates, with scores and prior, as lines."""
        lines = [f"instruction: {self.instruction}", f"candidates by {self.by}:"]
        rows = list(zip(self.phrases, self.scores, self.prior, strict=True))
        lines += [f"  {score:7.2f}  {share:6.1%}  {phrase}" for phrase, score, share in rows[:top]]
        return "\n".join([*lines, *([f"  and {len(rows) - top} more"] if rows[top:] else [])])


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
    """Candidates for an instruction, with a prior: the one place where a language model speaks.

    | `reward` | candidates | prior |
    |---|---|---|
    | `llm` | the menu, as `Selector` ranks it | of the ranking |
    | `uniform` | the menu | alike |
    | `llm-fixed`, `embedding`, `random` | the best one of the ranking (`ranker`) | 1 |
    | `oracle` | the phrase that is the mission, word for word | 1 |
    | `none` | the environment's own reward | 1 |

    Args:
        reward: as above.
        menu: what there is to choose from.
        instruction: what is asked.
        mission: what the environment asks; without one the oracle takes the instruction.
        cache, offline, seed: as of `ranker`.
        old: a run folder whose proposal is taken as it is: no model is asked again.

    Raises:
        FileNotFoundError: there is none in `old`.
        ValueError: an unknown kind, an instruction that is empty or too long, or one that an oracle
            does not find on the menu.
        LanguageError: of a model; names what is to be installed.

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
    """The `instruction` and the `mission` of a run: what is not given is that of an episode.

    Args:
        env: an environment with a describer, which may have a `mission`; it is reset.
        instruction: what is asked; "" is the mission.
        mission: what the environment asks; "" is that of the episode.
        seed: of the episode.

    Raises:
        ValueError: the environment has no mission, and nothing was asked.
    """
    env.reset(seed)
    mission = mission or getattr(env.describer, "mission", "")
    if not (instruction or mission).strip():
        raise ValueError("this environment has no mission of its own; give an --instruction")
    return {"instruction": instruction or mission, "mission": mission}
