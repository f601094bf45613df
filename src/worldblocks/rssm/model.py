"""The recurrent state-space model: a core and a latent, observed or imagined."""

from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldblocks.distributions import modes, wants_mode
from worldblocks.rssm.cores import BlockGRU
from worldblocks.rssm.latents import CategoricalLatent
from worldblocks.rssm.scan import observe_scan, scans
from worldblocks.rssm.state import Carry, Packed, State
from worldblocks.typing import typed


class RSSM(nn.Module):
    """A dynamics block: predicts the next latent from an action, corrects it by an observation.

    `prev_action` is the action that led to a row; `action` one that is chosen now. At a row with
    `is_first` the carry and the action are masked to zeros (the zero vector, not the one-hot of
    action 0), so nothing crosses an episode boundary.

    Args:
        core: `(deter, stoch, action) -> deter`, with the two halves `project_action` and `step`.
        latent: prior, posterior and distribution of the stochastic part.
        recompute: in training, `observe` keeps what its backward pass needs for so many rows at a
            time and the carries between such pieces, and runs each piece a second time: memory for
            a third more work. 0 keeps all.

    Source: PlaNet (arXiv:1811.04551); DreamerV3, equation 1.
    """

    def __init__(self, core: BlockGRU, latent: CategoricalLatent, *, recompute: int = 0) -> None:
        super().__init__()
        if recompute < 0:
            raise ValueError(f"recompute is a number of rows, or 0, got {recompute}")
        self.core, self.latent, self.recompute = core, latent, recompute
        self.feature_dim = core.deter + latent.size

    def initial(self, batch: int) -> Carry:
        """The carry before the first row: zeros."""
        deter = next(self.core.parameters()).new_zeros(batch, self.core.deter)
        return Carry(deter, self.latent.initial(deter))

    @typed
    def observe_step(
        self,
        carry: Annotated[Carry, "batch"],
        embed: Float[Tensor, "batch embed"],
        prev_action: Float[Tensor, "batch action"],
        is_first: Bool[Tensor, " batch"],
    ) -> Annotated[State, "batch"]:
        """The posterior state of one row."""
        self._check(carry)
        action = self.core.project_action(mask(prev_action, is_first))
        return self._observe_step(carry, self.latent.project(embed), action, is_first)

    @typed
    def observe(
        self,
        carry: Annotated[Carry, "batch"],
        embed: Float[Tensor, "batch time embed"],
        prev_action: Float[Tensor, "batch time action"],
        is_first: Bool[Tensor, "batch time"],
    ) -> Annotated[State, "batch time"]:
        """The posterior states of a sequence; `carry` is of the row before its first."""
        self._check(carry)
        if not is_first.shape[1]:
            raise ValueError("observe needs at least one row, got time = 0")
        actions = self.core.project_action(mask(prev_action, is_first))
        rows = self.latent.project(embed), actions, is_first, self.latent.noise(is_first)
        if not (self.recompute and torch.is_grad_enabled()):
            return self._observe(carry, *rows)
        pieces = []
        for piece in zip(*(x.split(self.recompute, 1) for x in rows), strict=True):
            # The noise is given, so that the second time draws what the first did.
            options: Any = {"use_reentrant": False, "preserve_rng_state": False}
            pieces.append(checkpoint(self._observe_again, wants_mode(), carry, *piece, **options))
            carry = pieces[-1][:, -1].carry
        return State(*(torch.cat(field, 1) for field in zip(*pieces, strict=True)))

    def _observe_again(self, likeliest: bool, *rows: Any) -> State:
        """`_observe` as it was asked for, wherever the backward pass asks a second time."""
        with modes(likeliest):
            return self._observe(*rows)

    def _observe(
        self, carry: Carry, projected: Tensor, actions: Tensor, is_first: Tensor, noise: Tensor
    ) -> State:
        """`observe` from where its inputs are projected."""
        if scans(self.core, self.latent, projected):
            return observe_scan(self.core, self.latent, carry, projected, actions, is_first, noise)
        states = []
        for row in zip(*(x.unbind(1) for x in (projected, actions, is_first, noise)), strict=True):
            states.append(self._observe_step(carry, *row))
            carry = states[-1].carry
        return State(*(torch.stack(field, 1) for field in zip(*states, strict=True)))

    def _observe_step(
        self,
        carry: Carry,
        projected: Tensor,
        action: Tensor,
        is_first: Tensor,
        noise: Tensor | None = None,
    ) -> State:
        deter, stoch = (mask(x, is_first) for x in carry)
        deter = self.core.step(deter, stoch.flatten(-2), action)
        logits = self.latent.posterior(deter, projected)
        return self._state(deter, logits, noise)

    @typed
    def imagine_step(
        self, carry: Annotated[Carry, "batch"], action: Float[Tensor, "batch action"]
    ) -> Annotated[State, "batch"]:
        """The prior state after `action`, without an observation."""
        self._check(carry)
        projected = self.core.project_action(action)
        deter = self.core.step(carry.deter, carry.stoch.flatten(-2), projected)
        return self._state(deter, self.latent.prior(deter))

    def _check(self, carry: Carry) -> None:
        """A carry of another model would fail in some matmul: say it here."""
        deter, stoch = carry.deter.shape[-1], carry.stoch.shape[-2:].numel()
        if (deter, stoch) != (self.core.deter, self.latent.size):
            raise ValueError(
                f"this RSSM carries {self.core.deter} deter and {self.latent.size} stoch numbers, "
                f"got {deter} and {stoch}: a carry of another model size?"
            )

    def _state(self, deter: Tensor, logits: Tensor, noise: Tensor | None = None) -> State:
        stoch = self.latent.distribution(logits).sample(noise)
        return State(deter, stoch.to(deter.dtype), logits)

    @typed
    def prior(self, deter: Float[Tensor, "*batch deter"]) -> Float[Tensor, "*batch groups classes"]:
        """Raw logits of the prior, of any batch axes: one call for a whole sequence."""
        return self.latent.prior(deter)

    def pack(self, carry: Carry) -> Packed:
        """A carry as replay stores it."""
        return Packed(carry.deter, self.latent.pack(carry.stoch))

    def unpack(self, packed: Packed) -> Carry:
        """The carry that was packed, exactly."""
        return Carry(packed.deter, self.latent.unpack(packed.index).to(packed.deter.dtype))


def mask(x: Float[Tensor, "..."], is_first: Bool[Tensor, "*batch"]) -> Float[Tensor, "..."]:
    """Zeros where `is_first`; also where `x` is not finite there, hence no multiplication."""
    return torch.where(is_first.reshape(is_first.shape + (1,) * (x.ndim - is_first.ndim)), 0.0, x)


def dreamer_rssm(
    *,
    embed_dim: int,
    action_dim: int,
    deter: int,
    hidden: int,
    groups: int,
    classes: int,
    blocks: int,
    unimix: float = 0.01,
    core_layers: int = 1,
    prior_layers: int = 2,
    posterior_layers: int = 1,
    absolute: bool = False,
    recompute: int = 0,
) -> RSSM:
    """The RSSM of DreamerV3's released code: a block GRU and categorical latents.

    >>> sizes = {"deter": 32, "hidden": 16, "groups": 4, "classes": 5, "blocks": 8}
    >>> dreamer_rssm(embed_dim=7, action_dim=3, **sizes).feature_dim
    52
    """
    core = BlockGRU(
        deter=deter,
        stoch=groups * classes,
        action_dim=action_dim,
        hidden=hidden,
        blocks=blocks,
        layers=core_layers,
    )
    latent = CategoricalLatent(
        deter=deter,
        embed_dim=embed_dim,
        groups=groups,
        classes=classes,
        hidden=hidden,
        prior_layers=prior_layers,
        posterior_layers=posterior_layers,
        unimix=unimix,
        absolute=absolute,
    )
    return RSSM(core, latent, recompute=recompute)
