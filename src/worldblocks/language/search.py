"""Thompson sampling over candidate rewards, one per episode."""

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
    """Tests candidate rewards for an instruction, by playing each episode for one of them.

    `begin` draws a candidate for each episode that begins. `end` updates the posterior with the
    outcomes of finished episodes. Each candidate in play owns one of a few heads
    (`wb.tasks.Slots`). `wb.run.Session` saves and restores it.

    Args:
        proposal: the candidates, best first, with their prior.
        menu: defines the features that the candidates use.
        heads: maximum number of candidates that train at once; the best start with a head.
        envs: number of environments; each plays for its own candidate.
        full_score: score of a complete success; 0 counts any score above 0 as success.
        chance: expected success rate of a wrong candidate.
        keep: factor on the weight of old outcomes (`SpecPosterior`).
        seed: for drawing candidates.
        fixed: require a permanent head for every candidate.

    Raises:
        ValueError: fewer heads than candidates in play, or than all candidates if `fixed`.
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
                f"{envs} environments may play for {envs} of {len(self._rewards)} candidates at "
                f"once, with {heads} heads: use more heads or fewer environments"
            )
        if fixed and heads < len(self._rewards):
            raise ValueError(
                f"{len(self._rewards)} candidates need a head each, with {heads} heads: use more "
                f"heads"
            )
        self.slots = Slots(min(heads, len(self._rewards)))
        self.slots.use(range(len(self.slots.tasks)))
        self.playing = [0] * envs

    @property
    def specs(self) -> list[Any]:
        """The reward function of each head; None is the environment's own reward."""
        return [None if task is None else self._rewards[task] for task in self.slots.tasks]

    @property
    def heads(self) -> list[int]:
        """The head that acts in each environment."""
        return [self.slots.of(candidate) for candidate in self.playing]

    @property
    def best(self) -> int:
        """The head of the most probable candidate among those with a head."""
        shares = self.belief.probabilities
        owned = [
            (shares[task], -head) for head, task in enumerate(self.slots.tasks) if task is not None
        ]
        return -max(owned)[1]

    def phrase(self, head: int) -> str:
        """The phrase that a head is trained for."""
        return self.proposal.phrases[self.slots.tasks[head] or 0]

    @property
    def metrics(self) -> dict[str, float]:
        """The probability of each candidate, as `belief/<phrase>`."""
        shares = zip(self.proposal.phrases, self.belief.probabilities, strict=True)
        return {f"belief/{phrase}": share for phrase, share in shares}

    def begin(self, is_first: Bool[Tensor, " env"]) -> list[int]:
        """Draw a candidate for every new episode; returns the heads that changed owner."""
        for env in is_first.nonzero().flatten().tolist():
            self.playing[env] = self.belief.choose()
        return self.slots.use(self.playing)

    def end(self, finished: Sequence[Episode]) -> list[dict[str, Any]]:
        """Update the posterior with finished episodes; returns the fields for `Logger.episode`."""
        fields = []
        for env, score, length in finished:
            won = self.success(score)
            self.belief.update(self.playing[env], won)
            task = self.proposal.phrases[self.playing[env]]
            fields.append({"score": score, "length": length, "task": task, "success": won})
        return fields

    def success(self, score: float) -> float:
        """The success of an episode, 0 to 1, from the environment's own score."""
        if not self.full_score:
            return float(score > 0)
        return min(max(score / self.full_score, 0.0), 1.0)

    def labelled(self, batch: Batch) -> Mixture:
        """Replayed rows, labelled with the reward of every head."""
        return labelled(batch, [spec and spec.relabel for spec in self.specs])

    def state_dict(self) -> dict[str, Any]:
        """The posterior, the owners of the heads, and the candidates in play."""
        parts = {"belief": self.belief.state_dict(), "slots": self.slots.state_dict()}
        return {**parts, "playing": list(self.playing)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.belief.load_state_dict(state["belief"])
        self.slots.load_state_dict(state["slots"])
        self.playing = list(state["playing"])
