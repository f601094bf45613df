"""`python -m benchmarks floor`: how far an update is from what the machine allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import record
from benchmarks.commands.report import Reported
from benchmarks.commands.settings import among, ours
from benchmarks.interleave import Contestant, measure
from benchmarks.work import SIZES, Work

KINDS = ("matmul", "convolution")


@dataclass(frozen=True, kw_only=True)
class Floor(Reported):
    size: str = "size1m"  # of the agent
    batch: int = 4  # windows of an update
    length: int = 32  # rows of each
    horizon: int = 15  # steps of imagination
    device: str = ""  # cpu or cuda; by default cuda where there is one

    def check(self) -> None:
        """See `Settings`."""
        super().check()
        among("size", self.size, list(SIZES))
        among("device", self.device, ["cpu", "cuda"])

    def least(self) -> dict[str, float]:
        """The smallest value of each number."""
        return {**super().least(), "batch": 1, "length": 2, "horizon": 1}

    def work(self) -> Work:
        """The sizes."""
        names = ("threads", "size", "batch", "length", "horizon")
        return Work(**{name: getattr(self, name) for name in names})

    def planned(self) -> Sequence[str]:
        """One measurement."""
        return [f"{self.work().words()}; {self.rounds} rounds"]


def figures(options: Floor, skipped: dict[str, str]) -> dict[str, Any]:
    """One worker that takes turns with itself."""
    device = options.device or default_device()
    job = ours("worldblocks", "floor:floor", options.work(), device=device)
    outcome = measure([job], **options.measuring())
    if not outcome.contestants or outcome.skipped:
        raise ValueError(f"nothing was measured: {outcome.skipped['worldblocks']}")
    return entries(outcome.contestants[0], device)


def default_device() -> str:
    """CUDA where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def entries(one: Contestant, device: str) -> dict[str, Any]:
    """What was measured, what was counted, and the floor made of both."""
    values = one.facts["values"]
    # Of a GPU the time until it is done counts, which is wall time.
    clock = "ours_wall" if device == "cuda" else "ours"
    times = {case: record.times("ours", one, case, 1e3) for case in one.turns}
    found: dict[str, Any] = {}
    for case, timed in times.items():
        group = "ceiling" if f"amount {case}" in values else "part"
        entry = {"group": group, "case": case, "unit": "ms", **timed}
        if group == "ceiling":
            entry |= {"amount": values[f"amount {case}"]}
            entry |= {"rate": record.digits(entry["amount"] / entry[clock] * 1e3)}
        found[f"{group}/{case}"] = entry
    found["floor"] = floor(values, best_rates(found), times["update"][clock])
    found["floor"] |= {"device": device, "facts": record.facts(one, "update")}
    found["floor"] |= {"sizes": one.job.work.words()}
    return found | profile(values)


def best_rates(found: Mapping[str, Any]) -> dict[str, float]:
    """Of each kind of ceiling the highest: FLOPs, bytes or operations a second."""
    rates: dict[str, float] = {}
    for entry in found.values():
        if entry["group"] == "ceiling":
            kind = entry["case"].partition(" ")[0]
            rates[kind] = max(rates.get(kind, 0.0), entry["rate"])
    return rates


def floor(
    values: Mapping[str, float], rates: Mapping[str, float], measured: float
) -> dict[str, Any]:
    """Milliseconds that arithmetic and traffic need at the best rates, and the measured time."""
    terms = {
        f"{kind} {way}": 1e3 * values[f"{kind} {way}"] / rates[kind]
        for kind in KINDS
        for way in ("forward", "backward")
    }
    terms["bytes of other operations"] = 1e3 * values["bytes other"] / rates["copy"]
    total = sum(terms.values())
    calls = 1e3 * values["operations"] / rates["operation"]
    counted = ("architecture", "bytes arithmetic", "bytes other", "operations")
    executed = [f"{kind} {way}" for kind in KINDS for way in ("forward", "backward")]
    return {
        "group": "floor",
        "unit": "ms",
        "counted": {name: values[name] for name in (*executed, *counted)},
        "rates": dict(rates),
        "terms": {name: record.digits(value) for name, value in terms.items()},
        "floor": record.digits(total),
        "calls": record.digits(calls),
        "measured": measured,
        "times_floor": record.digits(measured / total),
        "utilisation": record.digits(values["architecture"] / rates["matmul"] * 1e3 / measured),
    }


def profile(values: Mapping[str, float]) -> dict[str, Any]:
    """The operations that take longest."""
    found = {}
    for key, value in values.items():
        kind, _, name = key.partition(" ")
        if kind == "profile" and name != "total":
            found[f"profile/{name}"] = {
                "group": "profile",
                "operation": name,
                "unit": "ms",
                "ours": record.digits(value),
                "share": record.digits(value / values["profile total"]),
                "calls": round(values[f"calls {name}"]),
            }
    return found
