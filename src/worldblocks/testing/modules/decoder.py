"""What a decoder promises."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from worldblocks.distributions import ImageMSE, OneHot, SymlogMSE
from worldblocks.spaces import Spaces
from worldblocks.testing.modules import module as modules
from worldblocks.testing.modules.encoder import draw
from worldblocks.testing.promise import Found, Names, Promises, Report
from worldblocks.testing.promise.compare import expect, seeded, steady, stirred, tensors
from worldblocks.transforms import symexp

promise = Promises()
BATCH, TIME = 2, 3
DRIFT = 0.05  # under autocast to bfloat16
OTHERS = 12


class Case:
    """A decoder, what it reads and what it says."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        spaces: Spaces,
        state: Callable[..., Any],
        read: Callable[[Any], Tensor],
    ) -> None:
        self.make, self.spaces, self.read = make, dict(spaces), read
        self._state = state
        self.module = stirred(make, amount=0.1)
        generator = torch.Generator().manual_seed(0)
        self._one = {key: draw(space, (), generator) for key, space in self.spaces.items()}
        self._axes = tensors(self.state(0, 1))[0].ndim - 1  # of a state, after those of the batch

    def state(self, seed: int = 0, *batch: int) -> Any:
        """A state, `batch time` leading."""
        with seeded(seed):
            return self._state(*(batch or (BATCH, TIME)))

    def obs(self, *batch: int) -> dict[str, Tensor]:
        """The same observation for each row."""
        return {key: x.expand(*batch, *x.shape).contiguous() for key, x in self._one.items()}

    def call(self, module: Any, state: Any) -> list[Tensor]:
        """The loss of an observation that stays."""
        leaf = tensors(state)[0]
        obs = self.obs(*leaf.shape[: leaf.ndim - self._axes])
        return [module(state).nll({key: x.to(leaf.device) for key, x in obs.items()})]


@promise("keys", "There is an output for each key, with one loss for each row.", "the keys")
def keys(case: Case) -> None:
    output = case.module(case.state())
    told = output.nll(case.obs(BATCH, TIME))
    expect(told.shape == (BATCH, TIME), f"the loss of {(BATCH, TIME)} rows: {tuple(told.shape)}")
    missing = [key for key in case.spaces if key not in output]
    expect(not missing, f"there is no output for {missing}")


@promise("axes", "Batch axes are free, and each row is decoded alone.", "reshapes")
def axes(case: Case) -> None:
    modules.expect_axes(case.module, case.state(), case.call)


@promise("batch", "Elements of a batch do not see each other.", "norms over the batch axis")
def batch(case: Case) -> None:
    modules.expect_batch(case.module, case.state(), case.state(1), case.call)


@promise(
    "reads-all",
    "The loss has a gradient with respect to each part of the state.",
    "parts of the state that are left out, and detach()",
)
def reads_all(case: Case) -> None:
    modules.expect_reached(case.module, case.state(), case.call)


@promise("gradients-reach-parameters", "The loss trains every parameter.", "detach(), no_grad()")
def gradients_reach_parameters(case: Case) -> None:
    modules.expect_trained(case.module, case.state(), case.call)


@promise(
    "mean-fits-best",
    "What a state is decoded to has a smaller loss there than what other states are decoded to.",
    "the space that targets are compared in: pixels scaled once, symlog on both sides, axes",
)
def mean_fits_best(case: Case) -> None:
    with steady(), torch.no_grad():
        output = case.module(case.state(0, OTHERS, 1))
        seen = {key: case.read(output[key]) for key in case.spaces}
        for key in case.spaces:
            own = output.nll(seen)
            for shift in range(1, OTHERS):
                other = output.nll({**seen, key: seen[key].roll(shift, 0)})
                gap = (own - other).max().item()
                if gap > 1e-6:
                    what = f"{key!r} of another state has a smaller loss than the state's own"
                    raise Found(what, deviation=gap, allowed=1e-6)


@promise("repeatable", "In evaluation a call depends on its input alone.", "dropout, batch norm")
def repeatable(case: Case) -> None:
    modules.expect_repeatable(case.module, case.state(), case.call)


@promise("leaves-inputs-alone", "Nothing is written into the state.", "operations in place")
def leaves_inputs_alone(case: Case) -> None:
    modules.expect_quiet(case.module, case.state(), case.call)


@promise("saves", "A decoder that loads the state dict of another is the other.", "buffers")
def saves(case: Case) -> None:
    modules.expect_saved(case.make, case.state(), case.call)


@promise("moves-to-a-device", "On another device all is computed there.", "plain attributes")
def moves_to_a_device(case: Case) -> None:
    modules.expect_moves(case.make, case.state(), case.call)


@promise("bfloat16", f"Under autocast the loss drifts by at most {DRIFT}.", "norms in float32")
def bfloat16(case: Case) -> None:
    modules.expect_bfloat16(case.module, case.state(), case.call, DRIFT)


@promise("compiles", "One graph, with the values of eager mode.", "Python branches on values")
def compiles(case: Case) -> None:
    modules.expect_graph(case.module, case.state(), case.call)


def observed(output: Any) -> Shaped[Tensor, "..."]:
    """What an output of this library predicts, as an observation."""
    if isinstance(output, ImageMSE):
        return (output.mean * 255).round().to(torch.uint8)
    if isinstance(output, OneHot):
        return output.mean.argmax(-1)
    return symexp(output.mean) if isinstance(output, SymlogMSE) else output.mean


@promise.of
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
        make: gives a new decoder.
        spaces: the observations by key.
        state: `state(*batch)` draws a random state, a pytree of float tensors `*batch ...`.
        read: what the output of a key predicts, as an observation; by default as the outputs of
            this library are read.
        only, skip: names of promises that alone are tested, or are not.

    Raises:
        BrokenPromise: names each promise that is broken, and says how.
    """
    return promise.keep(Case(make, spaces, state, read), make, only, skip)
