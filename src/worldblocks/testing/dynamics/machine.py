"""Promises about shapes, memory, files, dtypes, devices and graphs."""

import warnings
from typing import Any

import torch
from torch.utils import _pytree as pytree

from worldblocks.testing.dynamics.case import PLAIN, Case, Inputs, every, promise
from worldblocks.testing.episodes import Trajectory
from worldblocks.testing.promise import NotApplicable
from worldblocks.testing.promise.compare import (
    devices,
    expect,
    expect_compiles,
    expect_equal,
    expect_untouched,
    perturbed,
    reloaded,
    steady,
    tensors,
)

DRIFT = 0.1  # relative, of the median feature under autocast to bfloat16
FIRST = PLAIN._replace(begins=(True, False, True))


@promise(
    "protocol",
    "States are batch-first tensors with a carry like the initial one and a feature of "
    "`feature_dim` numbers.",
    "shapes and dtypes of the results of `initial`, `observe_step`, `observe` and `imagine_step`",
)
def protocol(case: Case) -> None:
    given = case.inputs(FIRST)
    start, width = case.block.initial(FIRST.batch), case.block.feature_dim
    axes = FIRST.batch, FIRST.time
    states = {
        "observe": (case.observe(given), axes),
        "observe_step": (case.step(given), axes[:1]),
        "imagine_step": (case.imagine(given.carry, given.prev_action[:, 0]), axes[:1]),
    }
    for name, (state, axes) in states.items():
        shapes = [tuple(x.shape) for x in every(state)]
        what = f"{name} returned tensors of shapes {shapes} for the batch axes {axes}"
        expect(all(shape[: len(axes)] == axes for shape in shapes), what)
        what = f"{name} returned a feature of shape {shapes[-1]}; feature_dim is {width}"
        expect(shapes[-1] == (*axes, width), what)
        expect(all(bool(x.isfinite().all()) for x in every(state)), f"{name} returned NaN or inf")
        ours, theirs = layout(state.carry, len(axes)), layout(start, 1)
        what = f"the carry of {name} is {ours}, the initial one {theirs} (dtype and shape)"
        expect(ours == theirs, what)


def layout(carry: Any, axes: int) -> list[tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of every part, batch axes left out."""
    return [(x.dtype, tuple(x.shape[axes:])) for x in tensors(carry)]


@promise(
    "no-hidden-state",
    "A step depends on its arguments alone, not on earlier calls.",
    "attributes that a step writes",
)
def no_hidden_state(case: Case) -> None:
    given, other = case.inputs(PLAIN), case.inputs(PLAIN, other=1)
    action = given.prev_action[:, 0]
    before = every(case.imagine(given.carry, action)) + every(case.step(given))
    case.step(other)
    case.observe(other)
    again = every(case.imagine(given.carry, action))
    case.imagine(other.carry, action)
    again += every(case.step(given))
    what = "the same call returned another state after other calls"
    expect_equal(again, before, what, example=PLAIN)


@promise(
    "leaves-inputs-alone",
    "A block does not modify its arguments.",
    "in-place operations: masks, `x[is_first] = 0`, methods that end in `_`",
)
def leaves_inputs_alone(case: Case) -> None:
    given, block = case.inputs(FIRST), case.block
    row = Inputs(given.carry, *(x[:, 0] for x in given[1:]))
    expect_untouched(block.observe_step, row, "observe_step changed its arguments")
    expect_untouched(block.observe, given, "observe changed its arguments")
    step = [given.carry, given.prev_action[:, 0]]
    expect_untouched(block.imagine_step, step, "imagine_step changed its arguments")


@promise(
    "saves",
    "Two blocks with the same state dict compute the same.",
    "tensors that are neither parameters nor persistent buffers",
)
def saves(case: Case) -> None:
    given, other = case.inputs(PLAIN), reloaded(case.make, case.block)
    what = "a block with the same state dict returned other states"
    expect_equal(every(case.observe(given, other)), every(case.observe(given)), what)


@promise(
    "carry-saves",
    "`unpack(pack(carry))` is the carry, exactly; the initial one included.",
    "parts that `pack` leaves out, and its dtypes",
)
def carry_saves(case: Case) -> None:
    block = case.block
    if not (hasattr(block, "pack") and hasattr(block, "unpack")):
        raise NotApplicable("this block has no pack and unpack")
    if getattr(block, "context", 1) == 0:
        raise NotApplicable("nothing is stored: context = 0")
    for carry in (case.carry(3), block.initial(3)):
        again = block.unpack(block.pack(carry))
        expect_equal(again, carry, "unpack(pack(carry)) is another carry", allowed=0.0)
        expect(layout(again, 1) == layout(carry, 1), "unpack changed the dtype of a carry")


@promise(
    "moves-to-float64",
    "A block in float64 returns carries and features in float64, with the same numbers.",
    "constants and `initial`: take the dtype of new tensors from a parameter or an input",
)
def moves_to_float64(case: Case) -> None:
    block = perturbed(case.make).double()
    given = pytree.tree_map(
        lambda x: x.double() if x.is_floating_point() else x, case.inputs(FIRST)
    )
    start = block.initial(FIRST.batch)
    with steady(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # norms in float32 with weights in float64
        states = block.observe(given.carry, *given[1:])
        imagined = block.imagine_step(given.carry, given.prev_action[:, 0])
    results = {"initial": start, "observe": states.carry, "imagine_step": imagined.carry}
    results |= {"the feature of observe": states.feature()}
    for name, carry in results.items():
        dtypes = {x.dtype for x in tensors(carry) if x.is_floating_point()}
        expect(dtypes <= {torch.float64}, f"{name} returned {dtypes} in a float64 block")
    what = "a float64 block returned other features"
    expect_equal(states.feature(), case.observe(case.inputs(FIRST)).feature(), what, allowed=1e-3)


@promise(
    "moves-to-a-device",
    "A block on another device computes there.",
    "tensors created without `device=`, and tensors that are plain attributes instead of buffers",
)
def moves_to_a_device(case: Case) -> None:
    for device in devices():
        block = perturbed(case.make).to(device)
        given = pytree.tree_map(lambda x, to=device: x.to(to), case.inputs(FIRST))
        start = block.initial(FIRST.batch)
        with steady():
            states = block.observe(start, *given[1:])
            imagined = block.imagine_step(given.carry, given.prev_action[:, 0])
        found = {x.device.type for x in [*tensors(start), *every(states), *every(imagined)]}
        expect(found == {device}, f"a block on {device!r} returned tensors on {sorted(found)}")


@promise(
    "compiles",
    "A step compiles to one graph with its eager values and gradients.",
    "Python branches on values, .item(), shapes that depend on values",
)
def compiles(case: Case) -> None:
    given = case.inputs(FIRST)
    row = Inputs(given.carry, *(x[:, 0] for x in given[1:]))
    expect_compiles(case.block.observe_step, row, "observe_step")
    step = [given.carry, given.prev_action[:, 0]]
    expect_compiles(case.block.imagine_step, step, "imagine_step")


@promise(
    "bfloat16",
    f"Under autocast to bfloat16 a feature drifts by at most {DRIFT} (relative, median element).",
    "norms, softmaxes, logarithms and sums over time: compute them in float32",
)
def bfloat16(case: Case) -> None:
    trajectory = Trajectory((True,) * 8, ("." * 6,) * 8, seed=0)
    given = case.inputs(trajectory)
    with torch.no_grad():
        exact = case.observe(given).feature()
        with torch.autocast("cpu", torch.bfloat16):
            rough = case.observe(given).feature()
    expect(bool(rough.isfinite().all()), "a feature is NaN or infinite under autocast")
    gap = (rough.double() - exact.double()).norm(dim=-1) / exact.double().norm(dim=-1)
    median = torch.tensor([gap.median()])
    expect_equal(median, torch.zeros(1), "a feature drifted", allowed=DRIFT, example=trajectory)
