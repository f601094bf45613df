"""The ladder's agent with one block changed, as the documentation shows the change.

    PYTHONPATH=recipes:tests python tests/testing/ladder_variants.py --seeds 0 1

prints the table of docs/variants.md: scores of the trained agent, by rung and variant.
"""

import argparse
import time

import ladder_agent
import torch

from changed_recipes import diffs, recipe
from worldblocks.testing import RUNGS

HARMONY = diffs("blocks/balance.md", "## HarmonyWeights")
KINDS = 'squared=["obs"], likelihood=["dyn", "rep", "reward"]'
UNCERTAINTY = HARMONY[0].replace(
    'HarmonyWeights(["dyn", "rep", "obs", "reward"])', f"UncertaintyWeights({KINDS})"
)
VARIANTS = {
    "plain": [],
    "SymlogHead": diffs("blocks/heads.md", "## SymlogHead"),
    "HarmonyWeights": HARMONY,
    "UncertaintyWeights": [UNCERTAINTY, HARMONY[1]],
    "GRU": diffs("swap.md", "### A plain GRU")[:1],
    "Gaussian": diffs("swap.md", "### Gaussian latents")[:1],
    "decoupled": diffs("swap.md", "### A decoupled posterior")[:1],
}
LOW = [rung.name for rung in RUNGS[:6]]  # of vectors; the two of images take half an hour


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rungs", nargs="+", choices=[rung.name for rung in RUNGS], default=LOW)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--times", type=int, default=1, help="of each rung's steps")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    recipes = {name: recipe("dreamerv3_atari", VARIANTS[name]) for name in chosen.variants}
    print(
        f"| rung | needed | {' | '.join(recipes)} |\n|---|---|{'---|' * len(recipes)}", flush=True
    )
    begin = time.process_time()
    for rung in (rung for rung in RUNGS if rung.name in chosen.rungs):
        print(f"| `{rung.name}` | {rung.needed:g} |", end="", flush=True)
        for changed in recipes.values():
            scores = [
                ladder_agent.train(
                    rung.environment, chosen.times * rung.steps, seed, recipe=changed
                )
                for seed in chosen.seeds
            ]
            passed = sum(score >= rung.needed for score in scores)
            text = ", ".join(f"{score:.3g}" for score in scores)
            print(f" {text} ({passed} of {len(scores)}) |", end="", flush=True)
        print(flush=True)
    print(f"\n{time.process_time() - begin:.0f} s of CPU time")


if __name__ == "__main__":
    main()
