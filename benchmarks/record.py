"""Figures as JSON: one entry for each case and pair, `{name: {"ours", "peer", "ratio", ...}}`.

An entry is named `group/case/peer`, or `group/case/ours/peer` where ours is a variant of
worldblocks; `ours` and `peer` are medians in `unit`, of the medians in `ours_rounds` and
`peer_rounds`; `ratio` is the median of the quotients of these, round by round. Times are those of
`clock`; the same of the other clock stands beside them (`ours_wall`, ...). A measurement of
worldblocks alone has a peer of None. `_meta` says where and how the figures were made.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.groups import Group
from benchmarks.interleave import Contestant
from benchmarks.summary import no_claim, ratio, summarise

SCALE = {"s": 1, "ms": 1e3, "µs": 1e6}  # of seconds
PLAIN = "worldblocks"
OTHER = {"cpu": "wall", "wall": "cpu"}


def clock_of(threads: int) -> str:
    """The clock that is compared: several threads are worth what they save of the wall's."""
    return "cpu" if threads == 1 else "wall"


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
    timed, clock = case in ours.turns, clock_of(ours.job.work.threads)
    data |= {"clock": clock} if timed else {}
    for side, one in sides.items():
        if timed:
            data |= times(side, one, case, SCALE[unit], clock)
        else:
            data[side] = one.facts["values"][case]
        data[f"{side}_facts"] = facts(one, case)
    if peer:
        data |= ratios(case, ours, peer, clock) if timed else value_ratio(data)
        data["no_claim"] = ""
        if group.counts_flops and timed:
            data["no_claim"] = no_claim(case, ours.facts, peer.facts)
    return data


def times(
    side: str, one: Contestant, case: str, scale: float, clock: str = "cpu"
) -> dict[str, Any]:
    """Times of one side in the unit by the clock, and by the other one beside them."""
    found: dict[str, Any] = {}
    for name, key in ((clock, side), (OTHER[clock], f"{side}_{OTHER[clock]}")):
        summary = summarise([turn[name] for turn in one.turns[case]])
        found |= {
            key: digits(summary.median * scale),
            f"{key}_quartiles": [digits(summary.low * scale), digits(summary.high * scale)],
            f"{key}_rounds": [digits(median * scale, 6) for median in summary.rounds],
            f"{side}_samples": summary.samples,
        }
    return found


def ratios(case: str, ours: Contestant, peer: Contestant, clock: str = "cpu") -> dict[str, Any]:
    """Of the times by the clock, with the range of the rounds, and of those by the other one."""
    found = {}
    for of, name in ((clock, "ratio"), (OTHER[clock], f"ratio_{OTHER[clock]}")):
        one = ratio(*([turn[of] for turn in side.turns[case]] for side in (ours, peer)))
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


def digits(value: float, count: int = 4) -> float:
    """Four of them: more would be noise. What is computed with again has six."""
    return float(f"{value:.{count}g}")


def rounds_made(data: Mapping[str, Any]) -> list[int]:
    """How many rounds the figures have: a group, a sweep or a quick run makes fewer than asked."""
    entries = [entry for name, entry in data.items() if name[0] != "_"]
    keys = ("ours_rounds", "peer_rounds", "head_rounds")
    return sorted({len(entry[key]) for entry in entries for key in keys if key in entry})


def write(path: Path, data: Mapping[str, Any]) -> None:
    """As JSON, in place of what was there; its rounds are those that were made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {**data, "_meta": {**data["_meta"], "rounds": rounds_made(data)}}
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


def published(data: dict[str, Any], name: str, *, allow_dirty: bool) -> dict[str, Any]:
    """The figures, if they are those of a commit: a page says which code it is about.

    Raises:
        ValueError: they were measured with uncommitted changes.
    """
    if data["_meta"]["changed"] and not allow_dirty:
        raise ValueError(
            f"{name} was measured at {data['_meta']['commit']} with changes, which nobody else "
            f"can look up; commit and measure again, or make the page with --allow-dirty"
        )
    return data
