"""Promises of decoders."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from worldblocks.distributions import ImageMSE, OneHot, SymlogMSE
from worldblocks.spaces import Spaces
from worldblocks.testing.modules import module
from worldblocks.testing.modules.encoder import draw
from worldblocks.testing.promise import Names, Promises, Report, Violation
from worldblocks.testing.promise.compare import expect, perturbed, seeded, steady, tensors
from worldblocks.transforms import symexp

promise = Promises()
BATCH, TIME = 2, 3
OTHERS = 12


class Case(module.ModuleCase):
    """A decoder, its states, and an observation to predict."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        spaces: Spaces,
        state: Callable[..., Any],
        read: Callable[[Any], Tensor],
    ) -> None:
        self.make, self.spaces, self.read = make, dict(spaces), read
        self._state = state
        self.module = perturbed(make, amount=0.1)
        generator = torch.Generator().manual_seed(0)
        self._one = {key: draw(space, (), generator) for key, space in self.spaces.items()}
        self._axes = tensors(self.inputs(0, 1))[0].ndim - 1  # of a state, after those of the batch

    def inputs(self, seed: int = 0, *batch: int) -> Any:
        """A random state, `batch time` leading."""
        with seeded(seed):
            return self._state(*(batch or (BATCH, TIME)))

    def obs(self, *batch: int) -> dict[str, Tensor]:
        """The same observation for each row."""
        return {key: x.expand(*batch, *x.shape).contiguous() for key, x in self._one.items()}

    def call(self, module: Any, inputs: Any) -> list[Tensor]:
        """The loss of the fixed observation."""
        leaf = tensors(inputs)[0]
        obs = self.obs(*leaf.shape[: leaf.ndim - self._axes])
        return [module(inputs).nll({key: x.to(leaf.device) for key, x in obs.items()})]


@promise("keys", "There is an output for each key and one loss for each row.", "the keys")
def keys(case: Case) -> None:
    output = case.module(case.inputs())
    loss = tuple(output.nll(case.obs(BATCH, TIME)).shape)
    expect(loss == (BATCH, TIME), f"the loss has shape {loss}, expected {(BATCH, TIME)}")
    missing = [key for key in case.spaces if key not in output]
    expect(not missing, f"there is no output for {missing}")


promise.include(module.promise, "axes", "batch")
promise(
    "reads-all",
    "The loss has a gradient with respect to each part of the state.",
    "parts of the state that are left out, and detach()",
)(module.reaches_inputs)
promise.include(module.promise, "gradients-reach-parameters")


@promise(
    "mean-fits-best",
    "The loss of a decoded observation is smallest for the state that it was decoded from.",
    "the space of the targets: pixels scaled once, symlog on both sides, order of the axes",
)
def mean_fits_best(case: Case) -> None:
    with steady(), torch.no_grad():
        output = case.module(case.inputs(0, OTHERS, 1))
        decoded = {key: case.read(output[key]) for key in case.spaces}
        for key in case.spaces:
            own = output.nll(decoded)
            for shift in range(1, OTHERS):
                other = output.nll({**decoded, key: decoded[key].roll(shift, 0)})
                gap = (own - other).max().item()
                if gap > 1e-6:
                    what = f"{key!r} of another state has a smaller loss than the state's own"
                    raise Violation(what, difference=gap, allowed=1e-6)


promise.include(module.promise, "repeatable", "leaves-inputs-alone")
promise.include(module.promise, "saves", "moves-to-a-device", "bfloat16", "compiles")


def observed(output: Any) -> Shaped[Tensor, "..."]:
    """The prediction of an output of this library, as an observation."""
    if isinstance(output, ImageMSE):
        return (output.mean * 255).round().to(torch.uint8)
    if isinstance(output, OneHot):
        return output.mean.argmax(-1)
    return symexp(output.mean) if isinstance(output, SymlogMSE) else output.mean


@promise.check
def check_decoder(
    make: Callable[[], nn.Module],
    *,
    spaces: Spaces,
    state: Callable[..., Any],
    read: Callable[[Any], Shaped[Tensor, "..."]] = observed,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a decoder: a module from a state to an output by key, with `nll(obs)` over all keys.

    Args:
        make: returns a new decoder.
        spaces: the observations by key.
        state: `state(*batch)` draws a random state, a pytree of float tensors `*batch ...`.
        read: the prediction of one key's output, as an observation; by default that of the outputs
            of this library.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, spaces, state, read), make, only, skip)
