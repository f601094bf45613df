"""The recurrent state-space model: a core and a latent, observed or imagined."""

import math
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from worldblocks.distributions import Output, modes, wants_mode
from worldblocks.rssm.cpu import fused_observe
from worldblocks.rssm.imagination import stack
from worldblocks.rssm.protocols import Core, Latent
from worldblocks.rssm.state import Carry, Packed, State
from worldblocks.typing import typed


class RSSM(nn.Module):
    """A dynamics block: predicts the next latent from an action, corrects it by an observation.

        deter, memory = core(memory, stoch, action)        the carry and the action before a row
        stoch ~ posterior(deter, embed)                    observed
        stoch ~ prior(deter)                               imagined

    `prev_action` is the action that led to a row; `action` one that is chosen now. At a row with
    `is_first` the carry and the action are masked to zeros (the zero vector, not the one-hot of
    action 0), so nothing crosses an episode boundary.

    Args:
        core: `BlockGRU`, `GRU`, or any module with the protocol `Core`.
        latent: `CategoricalLatent`, `GaussianLatent`, or any module with the protocol `Latent`.
        recompute: gradient checkpointing. In training, `observe` recomputes activations in chunks
            of this many rows: less memory for about a third more work. 0 turns it off.

    Source: PlaNet (arXiv:1811.04551); DreamerV3, equation 1.
    """

    def __init__(self, core: Core, latent: Latent, *, recompute: int = 0) -> None:
        super().__init__()
        if not isinstance(recompute, int) or recompute < 0:
            raise ValueError(f"recompute is a number of rows, or 0, got {recompute!r}")
        _check_core(core)
        self.core, self.latent, self.recompute = core, latent, recompute
        self.part_dims = core.deter, math.prod(latent.shape)
        self.feature_dim = sum(self.part_dims)
        self.context = getattr(core, "context", 1)
        _check_memory(self.core, self.context)
        self._shapes = [x.shape[1:] for x in pytree.tree_leaves(self.initial(1))]

    def initial(self, batch: int) -> Carry:
        """The carry before the first row: zeros."""
        some = next(self.core.parameters())
        return Carry(self.core.initial(batch), some.new_zeros(batch, *self.latent.shape))

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
        carry: Annotated[Carry, "batch"] | None,
        embed: Float[Tensor, "batch time embed"],
        prev_action: Float[Tensor, "batch time action"],
        is_first: Bool[Tensor, "batch time"],
    ) -> Annotated[State, "batch time"]:
        """The posterior states of a sequence; `carry` is of the row before its first, if any."""
        carry = self.initial(len(embed)) if carry is None else carry
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
        return pytree.tree_map(lambda *fields: torch.cat(fields, 1), *pieces)

    def _observe_again(self, mode: bool, *rows: Any) -> State:
        """`_observe` with `modes(mode)`, so that the repeated pass takes the same samples."""
        with modes(mode):
            return self._observe(*rows)

    def _observe(
        self, carry: Carry, projected: Tensor, actions: Tensor, is_first: Tensor, noise: Tensor
    ) -> State:
        """`observe` on projected inputs."""
        if fused := fused_observe(self.core, self.latent, projected):
            return fused(carry, projected, actions, is_first, noise)
        if self.latent.absolute:
            return self._observe_absolute(carry, projected, actions, is_first, noise)
        states = []
        for row in zip(*(x.unbind(1) for x in (projected, actions, is_first, noise)), strict=True):
            states.append(self._observe_step(carry, *row))
            carry = states[-1].carry
        return stack(states)

    def _observe_absolute(
        self, carry: Carry, projected: Tensor, actions: Tensor, is_first: Tensor, noise: Tensor
    ) -> State:
        """`_observe` if no posterior reads `deter`: all posteriors at once, then the core."""
        parameters = self.latent.posterior(None, projected)
        stoch = self.latent.distribution(parameters).sample(noise)
        first, rest = carry.stoch.unsqueeze(1), stoch[:, :-1]  # drawn in float32 whatever the dtype
        taken = torch.cat([x.to(projected.dtype) for x in (first, rest)], 1)
        taken = mask(taken.flatten(2), is_first)
        if scan := getattr(self.core, "scan", None):
            deter, memory = scan(carry.memory, taken, actions, is_first)
            return self._state(deter, stoch, parameters, memory)
        rows = zip(taken.unbind(1), actions.unbind(1), is_first.unbind(1), strict=True)
        memory, deters, memories = carry.memory, [], []
        for old, action, first in rows:
            deter, memory = self._step(masked(memory, first), old, action)
            deters.append(deter)
            memories.append(() if memory is deter else memory)
        return self._state(torch.stack(deters, 1), stoch, parameters, stack(memories))

    def _observe_step(
        self,
        carry: Carry,
        projected: Tensor,
        action: Tensor,
        is_first: Tensor,
        noise: Tensor | None = None,
    ) -> State:
        stoch = mask(carry.stoch.flatten(1), is_first)
        deter, memory = self._step(masked(carry.memory, is_first), stoch, action)
        parameters = self.latent.posterior(deter, projected)
        stoch = self.latent.distribution(parameters).sample(noise)
        return self._state(deter, stoch, parameters, memory)

    @typed
    def imagine_step(
        self, carry: Annotated[Carry, "batch"], action: Float[Tensor, "batch action"]
    ) -> Annotated[State, "batch"]:
        """The prior state after `action`, without an observation."""
        self._check(carry)
        action = self.core.project_action(action)
        deter, memory = self._step(carry.memory, carry.stoch.flatten(1), action)
        parameters = self.latent.prior(deter)
        stoch = self.latent.distribution(parameters).sample()
        return self._state(deter, stoch, parameters, memory)

    def _step(self, memory: Any, stoch: Tensor, action: Tensor) -> tuple[Tensor, Any]:
        """The step of the core, if it is a pair: a tensor of two rows would pass for one."""
        pair = self.core.step(memory, stoch, action)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(
                f"step of the core {type(self.core).__name__} should return (deter, memory), got "
                f"{type(pair).__name__}; a core whose memory is its state returns it twice"
            )
        return pair

    def _state(self, deter: Tensor, stoch: Tensor, parameters: Any, memory: Any) -> State:
        return State(deter, stoch.to(deter.dtype), parameters, () if memory is deter else memory)

    def _check(self, carry: Carry) -> None:
        """Raise a readable error for a carry of another model size."""
        given = [list(x.shape) for x in pytree.tree_leaves(carry)]
        wanted = [[len(carry.stoch), *shape] for shape in self._shapes]
        if given != wanted:
            raise ValueError(
                f"this RSSM carries tensors of the shapes {wanted}, got {given}: a carry of "
                f"another model size? Start from the initial(batch) of this one"
            )

    def prior(self, state: State) -> Output:
        """The distribution before the observation was seen: one call for a whole sequence."""
        return self.latent.distribution(self.latent.prior(state.deter))

    def posterior(self, state: State) -> Output:
        """The distribution that the latent of a state was drawn from; imagined, the prior."""
        return self.latent.distribution(state.parameters)

    def pack(self, carry: Carry) -> Packed | tuple[()]:
        """A carry as replay stores it; nothing if `context` is 0."""
        if not self.context:
            return ()
        pack = getattr(self.core, "pack", lambda memory: memory)
        return Packed(pack(carry.memory), self.latent.pack(carry.stoch))

    def unpack(self, packed: Any) -> Carry | None:
        """The carry that was packed, bit for bit; None, a new start, if `context` is 0."""
        if not self.context:
            return None
        unpack = getattr(self.core, "unpack", lambda memory: memory)
        memory, stoch = unpack(packed[0]), packed[1]
        like = next(x for x in pytree.tree_leaves(memory) if x.is_floating_point())
        return Carry(memory, self.latent.unpack(stoch, like))


def _check_core(core: Any) -> None:
    """Raise a readable error for a core that lacks a part of the protocol."""
    name = type(core).__name__
    wanted = ("deter", "initial", "project_action", "step")
    if missing := [one for one in wanted if getattr(core, one, None) is None]:
        raise ValueError(f"the core {name} has no {', '.join(missing)}; see wb.rssm.Core")
    if hasattr(core, "pack") != hasattr(core, "unpack"):
        raise ValueError(f"the core {name} has one of pack and unpack; it needs both or neither")
    if getattr(core, "context", 1) not in (0, 1):
        raise ValueError(f"the context of a core is 1 or 0, got {core.context!r} of {name}")
    if next(core.parameters(), None) is None:
        raise ValueError(
            f"the core {name} has no parameter; a new carry takes its device and dtype from one"
        )


def _check_memory(core: Any, context: int) -> None:
    """Raise a readable error for a memory with nothing in it, or nothing that a latent is like."""
    tensors = pytree.tree_leaves(core.initial(1))
    floats = [x for x in tensors if x.is_floating_point()]
    if not tensors or (context and not floats):
        given = [str(x.dtype) for x in tensors] or "no tensor"
        raise ValueError(
            f"the memory of the core {type(core).__name__} has {given}; one of floats is needed, "
            f"in whose dtype replay gives a latent back. A core that remembers nothing else "
            f"returns deter as its memory, and `initial` zeros of its width"
        )


def masked(memory: Any, is_first: Bool[Tensor, " batch"]) -> Any:
    """`mask` for every tensor of a memory."""
    return pytree.tree_map(lambda x: mask(x, is_first), memory)


def mask(x: Float[Tensor, "..."], is_first: Bool[Tensor, "*batch"]) -> Float[Tensor, "..."]:
    """Zeros where `is_first`; also where `x` is not finite there, hence no multiplication."""
    return torch.where(is_first.reshape(is_first.shape + (1,) * (x.ndim - is_first.ndim)), False, x)
