"""Figures as JSON: one entry for each case and pair, `{name: {"ours", "peer", "ratio", ...}}`.

An entry is named `group/case/peer`, or `group/case/ours/peer` where ours is a variant of
worldblocks; `ours` and `peer` are medians in `unit`. A measurement of worldblocks alone has a peer
of None. `_meta` says where and how the figures were made.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.groups import Group
from benchmarks.interleave import Contestant
from benchmarks.summary import Summary, no_claim, ratio, summarise

SCALE = {"s": 1, "ms": 1e3, "µs": 1e6}  # of seconds
PLAIN = "worldblocks"


def entries(group: Group, contestants: Sequence[Contestant]) -> dict[str, dict[str, Any]]:
    """The entries of a group."""
    ours = [one for one in contestants if one.job.ours]
    peers = [one for one in contestants if not one.job.ours]
    found = {}
    for case in group.cases(contestants[0].job.work) if contestants else {}:
        for one in ours:
            if not has(one, case):
                continue
            others = [peer for peer in peers if has(peer, case)]
            for peer in others or [None]:
                found[entry_name(group, case, one, peer)] = entry(group, case, one, peer)
    return found


def has(contestant: Contestant, case: str) -> bool:
    """Whether it has a figure of the case."""
    return bool(contestant.turns.get(case)) or case in contestant.facts["values"]


def entry_name(group: Group, case: str, ours: Contestant, peer: Contestant | None) -> str:
    """The name of an entry."""
    variant = [] if ours.job.name == PLAIN else [ours.job.name]
    return "/".join([group.name, case, *variant, *([peer.job.name] if peer else [])])


def entry(group: Group, case: str, ours: Contestant, peer: Contestant | None) -> dict[str, Any]:
    """One pair of contestants at one case."""
    sides = {"ours": ours, "peer": peer} if peer else {"ours": ours}
    unit = group.units.get(case, "ms")
    data: dict[str, Any] = {
        "group": group.name,
        "case": case,
        "title": group.cases(ours.job.work)[case],
        "unit": unit,
        "ours": None,
        "peer": None,
        "ratio": None,
    }
    timed = case in ours.turns
    for side, one in sides.items():
        if timed:
            data |= times(side, one, case, SCALE[unit])
        else:
            data[side] = one.facts["values"][case]
        data[f"{side}_facts"] = facts(one, case)
    if peer:
        data |= ratios(case, ours, peer) if timed else value_ratio(data)
        data["no_claim"] = ""
        if group.counts_flops and timed:
            data["no_claim"] = no_claim(case, ours.facts, peer.facts)
    return data


def times(side: str, one: Contestant, case: str, scale: float) -> dict[str, Any]:
    """CPU time of one side in the unit, wall time beside it."""
    cpu = summarise([turn["cpu"] for turn in one.turns[case]])
    wall = summarise([turn["wall"] for turn in one.turns[case]])
    return {
        side: digits(cpu.median * scale),
        f"{side}_quartiles": quartiles(cpu, scale),
        f"{side}_wall": digits(wall.median * scale),
        f"{side}_wall_quartiles": quartiles(wall, scale),
        f"{side}_samples": cpu.samples,
    }


def quartiles(summary: Summary, scale: float) -> list[float]:
    """Lower and upper."""
    return [digits(summary.low * scale), digits(summary.high * scale)]


def ratios(case: str, ours: Contestant, peer: Contestant) -> dict[str, Any]:
    """Of CPU times, the range of the rounds, and of wall times."""
    found = {}
    for clock, name in (("cpu", "ratio"), ("wall", "ratio_wall")):
        one = ratio(*([turn[clock] for turn in side.turns[case]] for side in (ours, peer)))
        found[name] = digits(one.value)
        found[f"{name}_range"] = [digits(one.low), digits(one.high)]
    return found


def value_ratio(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of two values that are no times; an error is not compared by its ratio."""
    if data["case"].startswith("error") or not data["peer"]:
        return {"ratio": None}
    return {"ratio": digits(data["ours"] / data["peer"])}


def facts(one: Contestant, case: str) -> dict[str, Any]:
    """What a reader must know of a contestant to believe its figure."""
    return {
        "name": one.job.name,
        "parameters": one.facts["parameters"],
        "flops": one.facts["flops"].get(case),
        "flops_executed": one.facts["executed"].get(case),
        "mode": one.facts["mode"],
        "threads": one.job.work.threads,
        "environment": dict(one.job.environment),
        "versions": one.facts["versions"],
        "first_call_s": digits(one.facts["first_call"].get(case, 0.0)),
        "peak_mib": round(one.peak_mib),
        "note": one.facts["note"],
    }


def digits(value: float) -> float:
    """Four of them: more would be noise."""
    return float(f"{value:.4g}")


def write(path: Path, data: Mapping[str, Any]) -> None:
    """As JSON, in place of what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path, command: str = "python -m benchmarks") -> dict[str, Any]:
    """What `write` wrote, for `command`.

    Raises:
        FileNotFoundError: nothing was measured yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"there are no figures at {path}; `{command} --out {path}` makes them"
        )
    return json.loads(path.read_text(encoding="utf-8"))
