"""The recurrent state-space model: a core and a latent, observed or imagined."""

from collections.abc import Callable
from typing import Annotated, Any, Generic

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldblocks.distributions import Output, modes, wants_mode
from worldblocks.rssm.prior_steps import PriorSteps, repeats
from worldblocks.rssm.protocols import C, Core, Latent, S
from worldblocks.rssm.scan import observe_scan, scans
from worldblocks.typing import typed


class RSSM(nn.Module, Generic[C, S]):
    """A dynamics block: predicts the next latent from an action, corrects it by an observation.

    `prev_action` is the action that led to a row; `action` one that is chosen now. At a row with
    `is_first` the carry and the action are masked to zeros (the zero vector, not the one-hot of
    action 0), so nothing crosses an episode boundary.

    Args:
        core: `(deter, stoch, action) -> deter`, with the two halves `project_action` and `step`:
            `BlockGRU`, `GRU`, or whatever keeps the protocol `Core`.
        latent: prior, posterior and distribution of the stochastic part: `CategoricalLatent`,
            `GaussianLatent`, or whatever keeps the protocol `Latent`.
        recompute: gradient checkpointing. In training, `observe` recomputes activations in chunks
            of this many rows: less memory for about a third more work. 0 turns it off.

    Source: PlaNet (arXiv:1811.04551); DreamerV3, equation 1.
    """

    def __init__(self, core: Core, latent: Latent[C, S], *, recompute: int = 0) -> None:
        super().__init__()
        if not isinstance(recompute, int) or recompute < 0:
            raise ValueError(f"recompute is a number of rows, or 0, got {recompute!r}")
        self.core, self.latent, self.recompute = core, latent, recompute
        self.feature_dim = core.deter + latent.size

    def initial(self, batch: int) -> C:
        """The carry before the first row: zeros."""
        return self.latent.initial(next(self.core.parameters()).new_zeros(batch, self.core.deter))

    @typed
    def observe_step(
        self,
        carry: Annotated[C, "batch"],
        embed: Float[Tensor, "batch embed"],
        prev_action: Float[Tensor, "batch action"],
        is_first: Bool[Tensor, " batch"],
    ) -> Annotated[S, "batch"]:
        """The posterior state of one row."""
        self._check(carry)
        action = self.core.project_action(mask(prev_action, is_first))
        return self._observe_step(carry, self.latent.project(embed), action, is_first)

    @typed
    def observe(
        self,
        carry: Annotated[C, "batch"],
        embed: Float[Tensor, "batch time embed"],
        prev_action: Float[Tensor, "batch time action"],
        is_first: Bool[Tensor, "batch time"],
    ) -> Annotated[S, "batch time"]:
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
            # Both passes must draw alike: the noise is given, and whether modes are taken.
            options: Any = {"use_reentrant": False, "preserve_rng_state": False}
            pieces.append(checkpoint(self._observe_again, wants_mode(), carry, *piece, **options))
            carry = pieces[-1][:, -1].carry
        return type(pieces[0])(*(torch.cat(field, 1) for field in zip(*pieces, strict=True)))

    def _observe_again(self, mode: bool, *rows: Any) -> S:
        """`_observe` with `modes(mode)`, so that the repeated pass takes the same samples."""
        with modes(mode):
            return self._observe(*rows)

    def _observe(
        self, carry: C, projected: Tensor, actions: Tensor, is_first: Tensor, noise: Tensor
    ) -> S:
        """`observe` on projected inputs."""
        core, latent = self.core, self.latent
        if scans(core, latent, projected):  # type: ignore[arg-type]
            return observe_scan(core, latent, carry, projected, actions, is_first, noise)  # type: ignore[arg-type]
        if latent.absolute:
            return self._observe_absolute(carry, projected, actions, is_first, noise)
        states = []
        for row in zip(*(x.unbind(1) for x in (projected, actions, is_first, noise)), strict=True):
            states.append(self._observe_step(carry, *row))
            carry = states[-1].carry
        return type(states[0])(*(torch.stack(field, 1) for field in zip(*states, strict=True)))

    def _observe_absolute(
        self, carry: C, projected: Tensor, actions: Tensor, is_first: Tensor, noise: Tensor
    ) -> S:
        """`_observe` if no posterior reads `deter`: all posteriors at once, then the core."""
        parameters = self.latent.posterior(None, projected)
        stoch = self.latent.sample(parameters, noise)
        deter, before = carry.parts()
        taken = [before, *stoch.to(projected.dtype).flatten(2).unbind(1)[:-1]]
        rows, deters = zip(taken, actions.unbind(1), is_first.unbind(1), strict=True), []
        for old, action, first in rows:
            deter = self._core_step(deter, old, action, first)
            deters.append(deter)
        return self.latent.state(torch.stack(deters, 1), stoch, parameters)

    def _observe_step(
        self,
        carry: C,
        projected: Tensor,
        action: Tensor,
        is_first: Tensor,
        noise: Tensor | None = None,
    ) -> S:
        deter = self._core_step(*carry.parts(), action, is_first)
        return self._state(deter, self.latent.posterior(deter, projected), noise)

    def _core_step(self, deter: Tensor, stoch: Tensor, action: Tensor, is_first: Tensor) -> Tensor:
        return self.core.step(mask(deter, is_first), mask(stoch, is_first), action)

    @typed
    def imagine_step(
        self, carry: Annotated[C, "batch"], action: Float[Tensor, "batch action"]
    ) -> Annotated[S, "batch"]:
        """The prior state after `action`, without an observation."""
        self._check(carry)
        deter = self.core.step(*carry.parts(), self.core.project_action(action))
        return self._prior_state(deter)

    def repeated_step(self, carry: C) -> Callable[[C, Float[Tensor, "batch action"]], S]:
        """`imagine_step` for many steps from a carry, between which no parameter changes.

        On a CPU and without a gradient what depends on the parameters alone is computed once. What
        comes after a step that `imagine_step` has taken needs no check.
        """
        # Not where it was replaced: by a compiled one, for example, or in a subclass.
        own = getattr(self.imagine_step, "__func__", None) is _imagine_step
        if not own or not repeats(self.core, carry.deter):
            return self.imagine_step
        return PriorSteps(self.core, self._prior_state, len(carry.deter))  # type: ignore[arg-type]

    def _check(self, carry: C) -> None:
        """Raise a readable error for a carry of another model size."""
        deter, stoch = (part.shape[-1] for part in carry.parts())
        if (deter, stoch) != (self.core.deter, self.latent.size):
            raise ValueError(
                f"this RSSM carries {self.core.deter} deter and {self.latent.size} stoch numbers, "
                f"got {deter} and {stoch}: a carry of another model size?"
            )

    def _prior_state(self, deter: Tensor) -> S:
        return self._state(deter, self.latent.prior(deter))

    def _state(self, deter: Tensor, parameters: Any, noise: Tensor | None = None) -> S:
        return self.latent.state(deter, self.latent.sample(parameters, noise), parameters)

    @typed
    def prior(self, deter: Float[Tensor, "*batch deter"]) -> Output:
        """The prior at any batch of rows: one call for a whole sequence."""
        return self.latent.distribution(self.latent.prior(deter))

    def posterior(self, state: S) -> Output:
        """The distribution of observed latents (for imagined states: the prior)."""
        return self.latent.drawn_from(state)

    def pack(self, carry: C) -> Any:
        """A carry as replay stores it."""
        return self.latent.pack(carry)

    def unpack(self, packed: Any) -> C:
        """The carry that was packed, bit for bit."""
        return self.latent.unpack(packed)


_imagine_step = RSSM.imagine_step  # as it is written here, to notice another in its place


def mask(x: Float[Tensor, "..."], is_first: Bool[Tensor, "*batch"]) -> Float[Tensor, "..."]:
    """Zeros where `is_first`; also where `x` is not finite there, hence no multiplication."""
    return torch.where(is_first.reshape(is_first.shape + (1,) * (x.ndim - is_first.ndim)), 0.0, x)
