"""torchrl's DreamerV3 RSSM in the protocol of a dynamics block."""

from typing import NamedTuple

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.modules import RSSMPosteriorV3, RSSMPriorV3, RSSMRolloutV3

GROUPS, CLASSES, DETER, HIDDEN, UNIMIX = 3, 5, 16, 12, 0.01


class Memory(NamedTuple):
    """The recurrent carry."""

    state: Tensor
    belief: Tensor


class Seen(NamedTuple):
    """The state after a step, with torchrl's names."""

    state: Tensor
    belief: Tensor
    prior_logits: Tensor

    @property
    def carry(self) -> Memory:
        return Memory(self.state, self.belief)

    def feature(self) -> Tensor:
        return torch.cat([self.state, self.belief], -1)

    def light(self) -> "Seen":
        return self


class TorchRLRSSM(nn.Module):
    """`RSSMRolloutV3` observes, one step as a sequence of one row; `RSSMPriorV3` imagines.

    A row is a transition of torchrl: `action` led to it, `("next", "encoded_latents")` is its
    embedding, and the rollout resets at `is_init`.
    """

    feature_dim = GROUPS * CLASSES + DETER

    def __init__(self, embed_dim: int, action_dim: int, recurrent_model: str) -> None:
        super().__init__()
        sizes = {"num_categoricals": GROUPS, "num_classes": CLASSES, "unimix": UNIMIX}
        sizes |= {"hidden_dim": HIDDEN, "rnn_hidden_dim": DETER}
        block = recurrent_model == "block_gru"  # the core and the norm of the paper
        prior = RSSMPriorV3(
            action_shape=(action_dim,),
            action_dim=action_dim,
            recurrent_model=recurrent_model,
            num_blocks=4,
            **sizes,
        )
        posterior = RSSMPosteriorV3(obs_embed_dim=embed_dim, use_rms_norm=block, **sizes)
        after = [("next", "state"), ("next", "belief")]
        self.rollout = RSSMRolloutV3(
            TensorDictModule(
                prior,
                in_keys=["state", "belief", "action"],
                out_keys=[("next", "prior_logits"), *after],
            ),
            TensorDictModule(
                posterior,
                in_keys=[("next", "belief"), ("next", "encoded_latents")],
                out_keys=[("next", "posterior_logits"), ("next", "state")],
            ),
        )

    @property
    def prior_net(self) -> RSSMPriorV3:
        return self.rollout.rssm_prior.module

    def initial(self, batch: int) -> Memory:
        weight = next(self.parameters())  # its device and dtype
        return Memory(weight.new_zeros(batch, GROUPS * CLASSES), weight.new_zeros(batch, DETER))

    def observe(self, carry: Memory, embed: Tensor, prev_action: Tensor, is_first: Tensor) -> Seen:
        size = embed.shape[:2]
        rows = TensorDict(
            {
                # The rollout reads only the first row of these two.
                "state": carry.state[:, None].expand(*size, -1),
                "belief": carry.belief[:, None].expand(*size, -1),
                "action": prev_action,
                "is_init": is_first[..., None],
                "next": TensorDict({"encoded_latents": embed}, size),
            },
            size,
        )
        after = self.rollout(rows)["next"]
        return Seen(after["state"], after["belief"], after["prior_logits"])

    def observe_step(
        self, carry: Memory, embed: Tensor, prev_action: Tensor, is_first: Tensor
    ) -> Seen:
        rows = self.observe(carry, embed[:, None], prev_action[:, None], is_first[:, None])
        return Seen(*(leaf[:, 0] for leaf in rows))

    def imagine_step(self, carry: Memory, action: Tensor) -> Seen:
        prior_logits, state, belief = self.prior_net(carry.state, carry.belief, action)
        return Seen(state, belief, prior_logits)

    def prior(self, state: Seen) -> torch.distributions.Distribution:
        """The distribution torchrl samples from: its logits, mixed with a uniform."""
        probs = (1 - UNIMIX) * state.prior_logits.softmax(-1) + UNIMIX / CLASSES
        return torch.distributions.Independent(torch.distributions.OneHotCategorical(probs), 1)


def latent(state: Seen) -> Tensor:
    """The sampled part, in groups."""
    return state.state.unflatten(-1, (GROUPS, CLASSES))
