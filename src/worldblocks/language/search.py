"""What each environment is played for: drawn from a posterior, judged by the outcome."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from worldblocks.envs import Episode
from worldblocks.language.posterior import SpecPosterior, Successes
from worldblocks.language.proposal import Proposal
from worldblocks.language.rewards.menu import Menu
from worldblocks.replay import Batch, Mixture, labelled
from worldblocks.tasks import Slots


class RewardSearch:
    """Candidate rewards for one instruction, tested by playing an episode for one at a time.

    `begin` draws a candidate for each episode that begins, `end` gives the outcome of those that
    finished to the posterior. A candidate that is played has one of a few heads (`wb.tasks.Slots`).
    It is a part of a `wb.run.Session`.

    Args:
        proposal: the candidates, with their prior, best first.
        menu: whose features they use.
        heads: how many can be trained at once; the best begin with one.
        envs: environments, each played for a candidate of its own.
        full_score: score of an episode that is a whole success; 0: any above 0 is one.
        chance: success that is expected of a wrong candidate.
        keep: weight of an outcome at each later one of the same candidate (`SpecPosterior`).
        seed: of the draws.
        fixed: whether every candidate is to have a head of its own, for good.

    Raises:
        ValueError: there are too few heads for what is played at once, or for all if `fixed`.
    """

    def __init__(
        self,
        proposal: Proposal,
        menu: Menu,
        *,
        heads: int,
        envs: int,
        full_score: float = 0.0,
        chance: float = 0.05,
        keep: float = 1.0,
        seed: int = 0,
        fixed: bool = False,
    ) -> None:
        evidence = Successes(wrong=(20 * chance, 20 * (1 - chance)))
        self.belief = SpecPosterior(proposal.prior, evidence, keep=keep, seed=seed)
        self.proposal, self.full_score = proposal, full_score
        self._rewards = proposal.compile(menu)
        if envs > heads < len(self._rewards):
            raise ValueError(
                f"{envs} environments may be played for as many of {len(self._rewards)} candidates "
                f"at once, with {heads} heads: give as many heads, or fewer environments"
            )
        if fixed and heads < len(self._rewards):
            raise ValueError(
                f"{len(self._rewards)} candidates are to have a head each, with {heads} heads: "
                f"give as many heads"
            )
        self.slots = Slots(min(heads, len(self._rewards)))
        self.slots.use(range(len(self.slots.tasks)))
        self.playing = [0] * envs

    @property
    def specs(self) -> list[Any]:
        """The compiled reward of each head; None is the environment's own."""
        return [None if task is None else self._rewards[task] for task in self.slots.tasks]

    @property
    def heads(self) -> list[int]:
        """The head that plays each environment."""
        return [self.slots.of(candidate) for candidate in self.playing]

    @property
    def best(self) -> int:
        """The head of the likeliest candidate that has one."""
        shares = self.belief.probabilities
        owned = [
            (shares[task], -head) for head, task in enumerate(self.slots.tasks) if task is not None
        ]
        return -max(owned)[1]

    def phrase(self, head: int) -> str:
        """What a head is for."""
        return self.proposal.phrases[self.slots.tasks[head] or 0]

    @property
    def metrics(self) -> dict[str, float]:
        """The probability of each candidate, as `belief/<phrase>`."""
        shares = zip(self.proposal.phrases, self.belief.probabilities, strict=True)
        return {f"belief/{phrase}": share for phrase, share in shares}

    def begin(self, is_first: Bool[Tensor, " env"]) -> list[int]:
        """Draw a candidate for every episode that begins; gives the heads that changed hands."""
        for env in is_first.nonzero().flatten().tolist():
            self.playing[env] = self.belief.choose()
        return self.slots.use(self.playing)

    def end(self, finished: Sequence[Episode]) -> list[dict[str, Any]]:
        """Judge candidates by finished episodes; gives what `Logger.episode` takes of each."""
        told = []
        for env, score, length in finished:
            won = self.success(score)
            self.belief.update(self.playing[env], won)
            task = self.proposal.phrases[self.playing[env]]
            told.append({"score": score, "length": length, "task": task, "success": won})
        return told

    def success(self, score: float) -> float:
        """What the environment itself says of an episode, 0 to 1."""
        if not self.full_score:
            return float(score > 0)
        return min(max(score / self.full_score, 0.0), 1.0)

    def labelled(self, batch: Batch) -> Mixture:
        """Stored rows with the reward of every head."""
        return labelled(batch, [spec and spec.relabel for spec in self.specs])

    def state_dict(self) -> dict[str, Any]:
        """What has been learned, who has which head, and what is being played."""
        parts = {"belief": self.belief.state_dict(), "slots": self.slots.state_dict()}
        return {**parts, "playing": list(self.playing)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.belief.load_state_dict(state["belief"])
        self.slots.load_state_dict(state["slots"])
        self.playing = list(state["playing"])
