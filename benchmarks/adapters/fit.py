"""Memory of an update: counted, and measured beside it."""

import dataclasses
import gc
from collections.abc import Sequence

import worldblocks as wb
from benchmarks.adapters.replay_tools import resident
from benchmarks.adapters.torch_tools import prepare
from benchmarks.adapters.updates import Update, assemble, rows_of, without_autocast
from benchmarks.timing import Timed, peak_mib
from benchmarks.work import IMAGE, Work

FEW = (1, 2)  # windows and rows of the first update, which makes the optimiser's state


def counted(work: Work, cases: Sequence[Sequence[int]]) -> Timed:
    """Bytes of an update at each `(image, batch, length, imag_last, recompute)`, nothing computed.

    The values are named by the five numbers, joined by spaces.
    """
    prepare(work.threads)
    values, built = {}, {}
    with without_autocast():
        for image, batch, length, imag_last, recompute in cases:
            if image not in built:
                built[image] = assemble(work, device="meta", image=image)
            one = at(built[image], image, batch, length, imag_last, recompute)
            name = " ".join(map(str, (image, batch, length, imag_last, recompute)))
            values[name] = float(count(one, image))
    return Timed(values=values)


def at(one: Update, image: int, batch: int, length: int, imag_last: int, recompute: int) -> Update:
    """The same agent at another batch and with other knobs."""
    knobs = {"imag_last": imag_last, "recompute": recompute}
    cfg = dataclasses.replace(one.cfg, batch=batch, length=length, **knobs)
    one.agent.rssm.recompute = recompute
    device = next(one.agent.parameters()).device
    rows = rows_of(one.agent, batch, length, image).to(device)
    return Update(one.recipe, cfg, one.agent, one.optimizer, rows)


def count(one: Update, image: int) -> int:
    """The most bytes of tensors alive during the second of two updates.

    The first one is small: it leaves gradients and optimiser state behind, which the second finds.
    """
    first = at(one, image, *FEW, 0, 0)
    one.agent.rssm.recompute = one.cfg.recompute

    def updates() -> None:
        first.step()
        one.step()

    one.optimizer.zero_grad()
    one.optimizer.state.clear()
    return wb.run.count_memory(updates, one.agent, one.rows, first.rows).peak


def measured(work: Work) -> Timed:
    """What the process grows by in two updates, and the counts of the same on both devices.

    A small agent goes first, so that libraries have taken what they take once.
    """
    prepare(work.threads)
    assemble(dataclasses.replace(work, size="size1m", batch=1, length=2)).step()
    before = resident()
    one = assemble(work)
    one.step()
    one.step()
    grown = 1024 * 1024 * peak_mib() - before
    same = at(one, one.cfg.image, work.batch, work.length, 0, 0)
    on_cpu = count(same, one.cfg.image)
    del one, same
    gc.collect()
    with without_autocast():
        on_meta = count(assemble(work, device="meta"), IMAGE[0])
    return Timed(values={"grown": grown, "counted cpu": on_cpu, "counted meta": on_meta})
