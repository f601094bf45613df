"""The comparison of finished runs, as JSON.

It has, for each metric, `[mean, smallest, largest]` over the seeds of the mean over a run,
the p of a permutation test, and curves over the bins of updates in the same form.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.closed_loop.games import GAMES, SETTINGS, SIDES
from benchmarks.closed_loop.record import Line, Run, origin
from benchmarks.figures import digits

BINS = 20  # of updates, besides the first few
RETURNS = 15  # bins of environment steps
EXACT = 200_000  # ways to split the seeds, of which all are tried
SAMPLED = 100_000  # ways that are tried where there are more


def metrics(game: str) -> dict[str, tuple[Callable[[Line], float], Callable[[Line], float]]]:
    """What is compared, of the official code's line and of ours, without the weights of losses."""
    key, weight = GAMES[game].key, SETTINGS[game]["reconstruction"]
    scale = lambda line: max(1.0, line["hi"] - line["lo"])  # noqa: E731
    named = {  # official name, our name, our weight
        "reconstruction loss": (f"loss/{key}", "loss/obs", weight),
        "reward loss": ("loss/rew", "loss/reward", 1.0),
        "continue loss": ("loss/con", "loss/cont", 1.0),
        "dynamics loss": ("loss/dyn", "loss/dyn", 1.0),
        "representation loss": ("loss/rep", "loss/rep", 0.1),
        "actor loss": ("loss/policy", "loss/actor", 1.0),
        "critic loss": ("loss/value", "loss/critic", 1.0),
        "replayed critic loss": ("loss/repval", "loss/replay_critic", 0.3),
        "prior entropy": ("dyn_ent", "prior_entropy", 1.0),
        "posterior entropy": ("rep_ent", "posterior_entropy", 1.0),
        "policy entropy": ("ent/action", "policy_entropy", 1.0),
        "value": ("val", "value", 1.0),
        "imagined return": ("tar", "return", 1.0),
        "imagined reward": ("rew", "reward", 1.0),
        "imagined continue": ("con", "continue", 1.0),
        "|advantage|": ("adv_mag", "advantage_abs", 1.0),
        "gradient norm": ("opt/grad_norm", "grad_norm", 1.0),
        "update RMS": ("opt/update_rms", "update_rms", 1.0),
        "parameter RMS": ("opt/param_rms", "param_rms", 1.0),
    }

    def pair(theirs: str, own: str, weight: float) -> tuple[Any, Any]:
        return lambda line: line[theirs], lambda line: line[own] / weight

    return {name: pair(*one) for name, one in named.items()} | {"return scale": (scale, scale)}


def permutation(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the difference of two means: the share of splits that differ as much.

    All splits are tried up to 200,000 of them (ten seeds against ten have 184,756). Beyond,
    100,000 random ones and the observed one are.

    >>> permutation([1.0, 2.0], [3.0, 4.0])  # 2 of 6 splits
    0.3333333333333333
    """
    pool, k = np.array([*first, *second]), len(first)
    if math.comb(len(pool), k) <= EXACT:
        chosen = np.array(list(itertools.combinations(range(len(pool)), k)))
    else:
        random = np.random.default_rng(0)
        orders = random.permuted(np.tile(np.arange(len(pool)), (SAMPLED, 1)), axis=1)
        chosen = np.concatenate([np.arange(k)[None], orders[:, :k]])
    sums = pool[chosen].sum(1)
    gaps = np.abs(sums / k - (pool.sum() - sums) / (len(pool) - k))
    seen = abs(np.mean(first) - np.mean(second))
    return float(np.mean(gaps >= seen - 1e-9 * max(1.0, seen)))


def smallest(first: int, second: int) -> float:
    """The smallest p that `permutation` can give with these numbers of seeds.

    >>> smallest(3, 3)  # 2 of 20
    0.1
    """
    return (2 if first == second else 1) / math.comb(first + second, first)


def compare(runs: dict[str, dict[int, Run]], game: str) -> dict[str, Any]:
    """The comparison of runs from `read`, ready for JSON."""
    every = [run for own in runs.values() for run in own.values()]
    updates = min(len(run.updates) for run in every)
    edges = np.unique([0, 1, 10, 30, *np.linspace(0, updates, BINS + 1).astype(int)])
    edges = edges[edges <= updates]
    steps = int(every[0].times["steps"])
    bounds = np.linspace(0, steps, RETURNS + 1)
    by_step = {s: np.array([by_steps(r, bounds) for r in own.values()]) for s, own in runs.items()}
    return {
        "game": game,
        "steps": steps,
        "updates": updates,
        "seeds": {side: list(own) for side, own in runs.items()},
        "smallest p": digits(smallest(*(len(own) for own in runs.values()))),
        "origin": {side: origin(own) for side, own in runs.items()},
        "bins": edges.tolist(),
        "metrics": {
            name: of_metric(
                {
                    side: np.array(
                        [[function(x) for x in r.updates[:updates]] for r in own.values()]
                    )
                    for function, (side, own) in zip(functions, runs.items(), strict=True)
                },
                edges,
            )
            for name, functions in metrics(game).items()
        },
        "returns": {
            "step": bounds[1:].tolist(),
            **{side: ranges(curves) for side, curves in by_step.items()},
            "over the run": tested({s: nanmean(c) for s, c in by_step.items()}),
            "late episodes": late({s: list(own.values()) for s, own in runs.items()}, steps),
        },
        "times": times(runs),
    }


def of_metric(curves: dict[str, np.ndarray], edges: np.ndarray) -> dict[str, Any]:
    """The comparison of one metric, from `seed update` of each side."""
    binned = {
        side: np.add.reduceat(curve, edges[:-1], axis=1) / np.diff(edges)
        for side, curve in curves.items()
    }
    outside = {}
    for side, other in (SIDES, SIDES[::-1]):
        mean, theirs = binned[side].mean(0), binned[other]
        out = (mean < theirs.min(0)) | (mean > theirs.max(0))
        outside[side] = digits(float(out.mean()))
    over = tested({side: curve.mean(1) for side, curve in curves.items()})
    return {**over, "outside": outside, "curves": {s: ranges(c) for s, c in binned.items()}}


def tested(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean and range of both sides, one value per seed, and the p of their difference."""
    found: dict[str, Any] = {
        side: [digits(float(f(own))) for f in (np.mean, np.min, np.max)]
        for side, own in values.items()
    }
    return {**found, "p": digits(permutation(*(own.tolist() for own in values.values())))}


def ranges(curves: np.ndarray) -> list[list[float | None]]:
    """Mean, smallest and largest over the seeds in each bin; None in a bin without a value."""
    known = [column[np.isfinite(column)] for column in curves.T]
    return [
        [digits(float(f(column))) if len(column) else None for column in known]
        for f in (np.mean, np.min, np.max)
    ]


def by_steps(run: Run, bounds: np.ndarray) -> np.ndarray:
    """Mean score of the episodes that ended in each bin; an empty bin carries the one before."""
    step, score = run.episodes.T
    values, last = [], math.nan
    for begin, end in itertools.pairwise(bounds):
        inside = (step > begin) & (step <= end)
        last = float(score[inside].mean()) if inside.any() else last
        values.append(last)
    return np.array(values)


def nanmean(curves: np.ndarray) -> np.ndarray:
    """The mean of each curve after its first episode; 0 of one without an episode."""
    known = np.isfinite(curves)
    return np.where(known, curves, 0).sum(1) / known.sum(1).clip(1)


def late(runs: dict[str, list[Run]], steps: int) -> dict[str, Any]:
    """Scores of the episodes that ended after half of the steps, one mean per seed."""
    own = {
        side: [run.episodes[run.episodes[:, 0] > steps / 2, 1] for run in group]
        for side, group in runs.items()
    }
    found = {side: [scores for scores in group if len(scores)] for side, group in own.items()}
    counts = {side: sum(map(len, group)) for side, group in found.items()}
    if not all(counts.values()):
        return {"episodes": counts}
    means = {side: np.array([one.mean() for one in group]) for side, group in found.items()}
    listed = {side: [digits(float(one)) for one in group] for side, group in means.items()}
    return {**tested(means), "episodes": counts, "by seed": listed}


def times(runs: dict[str, dict[int, Run]]) -> dict[str, Any]:
    """Milliseconds of both sides, means over seeds, and ours over the official code's.

    An environment step has its share of the updates. Acting is one call. An update is all that is
    not acting, divided by the number of updates, so it has four environment steps, their storage,
    sampling and the write-back. What only our record computes is taken off.
    """

    def of(run: Run) -> dict[str, float]:
        t = run.times
        found = {}
        for clock, total, tail in (("CPU", "cpu_total", "_cpu"), ("wall", "total", "")):
            spent = t[total] - t.get(f"extra{tail}", 0.0)
            found[f"{clock}, environment step"] = spent / t["steps"]
            if f"policy{tail}" in t:
                found[f"{clock}, acting"] = t[f"policy{tail}"] / t["n_policy"]
                found[f"{clock}, update"] = (spent - t[f"policy{tail}"]) / t["updates"]
        return found

    own = {side: [of(run) for run in group.values()] for side, group in runs.items()}
    shared = [name for name in own["ours"][0] if all(name in x for xs in own.values() for x in xs)]
    result = {}
    for name in shared:
        theirs, ours = (1e3 * np.mean([x[name] for x in own[side]]) for side in SIDES)
        ratio = digits(float(ours / theirs))
        result[name] = {
            "official": digits(float(theirs)),
            "ours": digits(float(ours)),
            "ratio": ratio,
        }
    return result
