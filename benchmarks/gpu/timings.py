"""How long an update takes, captured and eager, and where its time goes."""

import collections
import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

import worldblocks as wb
from benchmarks.gpu import agents
from benchmarks.gpu.agents import finite
from benchmarks.ours import Update, trained

Findings = Iterator[dict[str, Any]]
ROUNDS = 5
SECONDS = 3.0  # of all rounds of one way
TOP = 15  # kernels that are named
WARM = 6  # calls before any is timed; the graph is recorded in the fourth


def size1m(device: str, quick: bool) -> Findings:
    """walker_walk from its numbers."""
    return update(agents.proprio("size1m", device, quick, bf16=True), quick)


def size12m(device: str, quick: bool) -> Findings:
    """Images."""
    return update(agents.images("size12m", device, quick, bf16=True), quick)


def size200m(device: str, quick: bool) -> Findings:
    """Images, the largest of the published models."""
    return update(agents.images("size200m", device, quick, bf16=True), quick)


def update(one: Update, quick: bool) -> Findings:
    """Captured, then eager, each with its profile; what cannot be captured is timed eagerly."""
    cuda = one.rows.reward.is_cuda
    device = torch.cuda.get_device_name() if cuda else ""
    yield {"device": device, "parameters": trained(one.agent)}
    yield {"rows": list(one.rows.reward.shape)}
    step = functools.partial(one.recipe.update, one.agent, one.optimizer, cfg=one.cfg)
    failed = None
    for name in ("captured", "eager"):
        way = wb.run.Captured(step) if name == "captured" else step
        call = functools.partial(way, one.rows)
        try:
            yield {name: timed(call, 0.1 if quick else SECONDS, cuda)}
            yield {f"{name}, where the time goes": profile(call, cuda)}
        except RuntimeError as error:
            failed = error
        del way, call  # and with them the memory of the graph
        gc.collect()
    if failed:
        raise failed


def timed(call: Callable[[], Any], seconds: float, cuda: bool) -> dict[str, Any]:
    """Milliseconds of one call, back to back; each round ends when the device has done its work."""
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    first = clocked(call, 1, cuda)
    for _ in range(WARM - 2):
        call()
    once = clocked(call, 1, cuda)
    calls = max(1, int(seconds / ROUNDS / once))
    rounds = [1e3 * clocked(call, calls, cuda) / calls for _ in range(ROUNDS)]
    found = {"ms": finite(statistics.median(rounds)), "rounds ms": list(map(finite, rounds))}
    found |= {"calls of a round": calls, "first call s": finite(first)}
    if cuda:
        found["peak GiB"] = finite(torch.cuda.max_memory_allocated() / 2**30)
        found["reserved GiB"] = finite(torch.cuda.max_memory_reserved() / 2**30)
    return found


def clocked(call: Callable[[], Any], calls: int, cuda: bool) -> float:
    """Seconds of some calls, until the device has nothing to do."""
    wait = torch.cuda.synchronize if cuda else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    wait()
    return time.perf_counter() - start


def profile(call: Callable[[], Any], cuda: bool) -> dict[str, Any]:
    """Kernels (on a CPU: operations, nested ones too) that take longest in one update."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(
        activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]
    ) as profiler:
        took = clocked(call, 1, cuda)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    spent: dict[str, float] = collections.defaultdict(float)
    calls: dict[str, int] = collections.defaultdict(int)
    # As recorded: PyTorch's own table of a hundred thousand kernels takes longer than the update.
    for event in profiler.profiler.kineto_results.events():
        if event.device_type() == kind:
            spent[event.name()] += event.duration_ns() / 1e6
            calls[event.name()] += 1
    longest = sorted(spent, key=lambda name: -spent[name])[:TOP]
    return {
        "wall ms": finite(1e3 * took),
        "busy ms": finite(sum(spent.values())),
        "kernels": sum(calls.values()),
        "longest": [
            {"name": name[:120], "ms": finite(spent[name]), "calls": calls[name]}
            for name in longest
        ],
    }
