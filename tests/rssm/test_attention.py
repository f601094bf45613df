"""A researcher's core, causal attention with a ring for its memory: the checks and the recipe."""

import dataclasses
import functools

import pytest
import tiny_runs
import torch

import worldblocks as wb
from attention_core import attention_rssm
from changed_recipes import gym_recipe

SIZES = {"embed_dim": 7, "action_dim": 3}
WIDTHS = {"deter": 12, "hidden": 8, "groups": 3, "classes": 4}
ONE_LINE = """\
-        self.rssm = wb.rssm.dreamer_rssm(
+        self.rssm = attention_rssm(
-            blocks=cfg.blocks,
+            window=4,
"""


# The check of gradients looks back three rows, further than a window of three.
CASES = [(4, 1, []), (3, 1, ["gradients-through-time"]), (4, 0, [])]


@pytest.mark.parametrize(("window", "context", "skip"), CASES)
def test_keeps_every_promise_but_what_it_cannot(window, context, skip):
    make = functools.partial(attention_rssm, window=window, context=context, **SIZES, **WIDTHS)
    kind = {"prior": lambda rssm, state: rssm.prior(state), "latent": lambda state: state.stoch}
    report = wb.testing.check_dynamics(make, **SIZES, **kind, skip=skip)
    assert set(report.skipped) == (set() if context else {"carry-saves"})


def test_a_token_leaves_the_ring_after_the_window():
    rssm = attention_rssm(window=3, **SIZES, **WIDTHS)
    embed, action, first = torch.randn(2, 6, 7), torch.randn(2, 6, 3), torch.zeros(2, 6).bool()
    other = torch.cat([-action[:, :1], action[:, 1:]], 1)  # the first token is another
    with wb.distributions.modes():
        one, two = (rssm.observe(rssm.initial(2), embed, x, first).deter for x in (action, other))
    same = (one == two).all(-1)
    assert same.tolist() == [[False] * 3 + [True] * 3] * 2


@pytest.mark.parametrize("context", [0, 1])
def test_a_run_in_the_recipe_resumes_exactly(context, tmp_path):
    """With its ring in replay and in the checkpoint, or with none in replay."""
    pytest.importorskip("gymnasium", reason="needs the extra gym")
    recipe = gym_recipe([ONE_LINE])
    recipe.attention_rssm = functools.partial(attention_rssm, context=context)
    tiny = {"env": "tiny_environments:Diary", "steps": 60, "image": 48, "prefill": 8}
    tiny |= {"train_ratio": 2.0, "log_every": 16, "video_every": 24, "save_every": 30}
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **tiny)
    whole = tiny_runs.run(recipe, cfg, tmp_path / "whole")
    tiny_runs.comparable(whole, 60)
    folder = tiny_runs.interrupted(recipe, cfg, tmp_path / "run", 21)
    tiny_runs.same_run(tiny_runs.run(recipe, cfg, folder, resume=True), whole)
