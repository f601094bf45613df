"""Group h: running scales and slow copies."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from parity.arrays import Arrays
from parity.record import Check, Record
from worldblocks.ema import SlowCopy
from worldblocks.normalize import PercentileScale, RunningMoments

Read = Callable[[], tuple[Tensor, Tensor]]


def normalize_checks(file: Arrays) -> Iterator[Check]:
    """One row for each normaliser that the library has; `none` is the absence of one."""

    def percentiles(record: Record, case: str, debias: bool) -> None:
        scale = PercentileScale(debias=debias)
        state = {"lo": lambda: scale.range[0], "hi": lambda: scale.range[1]}
        state["corr"] = lambda: scale.weight
        _run(record, file, case, scale, lambda: (scale.limits()[0], scale.eval()(_NOTHING)), state)

    def moments(record: Record, case: str) -> None:
        scale = RunningMoments()
        state = {"mean": lambda: scale.moments[0], "sqrs": lambda: scale.moments[1]}
        state["corr"] = lambda: scale.weight
        _run(record, file, case, scale, lambda: scale.eval()(_NOTHING), state)

    kinds: dict[str, tuple[str, Callable[[Record, str], None]]] = {
        "perc": ("percentile scale", lambda r, case: percentiles(r, case, False)),
        "perc_debias": ("percentile scale, debiased", lambda r, case: percentiles(r, case, True)),
        "meanstd": ("running moments", moments),
    }
    for case in file.parts():
        if case in kinds:
            what, run = kinds[case]
            yield Check("h", f"{file.name} {case}", what, lambda r, c=case, run=run: run(r, c))
    yield Check("h", f"{file.name} percentiles", "percentiles", lambda r: _percentiles(r, file))


_NOTHING = torch.zeros(0)  # in eval mode a scale reads nothing of its argument


def _run(
    record: Record,
    file: Arrays,
    case: str,
    scale: nn.Module,
    read: Read,
    state: dict[str, Callable[[], Tensor]],
) -> None:
    arrays = file.at(case)
    for name, ours in zip(("offset_before", "scale_before"), read(), strict=True):
        record.value(f"{case}.{name}", ours, arrays[name])
    rows: dict[str, list[Any]] = {"offset": [], "scale": []}
    rows |= {name: [] for name in arrays if name.startswith("state.")}
    for x in file.tensor("x"):
        scale.train()(x)
        for name, ours in zip(("offset", "scale"), read(), strict=True):
            rows[name].append(ours.item())
        for name in rows:
            if name.startswith("state."):
                rows[name].append(state[name.split("/")[-2]]().item())
    for name, ours in rows.items():
        record.value(f"{case}.{name}", ours, arrays[name])


def _percentiles(record: Record, file: Arrays) -> None:
    names = [name for name in file if re.fullmatch(r"percentile_\d+", name)]
    at = sorted(int(name.split("_")[1]) for name in names)
    scale = PercentileScale(rate=1.0, low=at[0], high=at[-1])
    rows = []
    for x in file.tensor("x"):
        scale(x)
        rows.append(scale.limits().clone())
    for percent, ours in zip((at[0], at[-1]), torch.stack(rows, 1), strict=True):
        record.value(f"percentile_{percent}", ours, file[f"percentile_{percent}"])


def slow_checks(file: Arrays) -> Iterator[Check]:
    """One row for each rate and interval."""

    def run(record: Record, case: str) -> None:
        arrays = file.at(case)
        sources = arrays.tensor("source")
        module = nn.ParameterList([nn.Parameter(sources[0].clone())])
        slow = SlowCopy(module, arrays.number("rate"), int(arrays.number("every")))
        copies = [slow.copy[0].clone()]  # type: ignore[index]
        for source in sources[1:]:
            module[0].data = source.clone()
            slow.update(module)
            copies.append(slow.copy[0].clone())  # type: ignore[index]
        record.value(f"{case}.slow", torch.stack(copies), arrays["slow"])

    for case in file.parts():
        yield Check("h", f"{file.name} {case}", "slow copy", lambda r, c=case: run(r, c))
