"""Diagnosis of a core that remembers more than its deterministic state."""

import point_recipe as recipe
import pytest
import torch
from torch.utils import _pytree as pytree

import worldblocks as wb
from ring_core import Ring, RingCore
from worldblocks import diagnose
from worldblocks.diagnose import inputs


@pytest.fixture
def agent(monkeypatch):
    monkeypatch.setattr(inputs, "SAMPLES", 2)
    monkeypatch.setattr(diagnose.held_out, "SAMPLES", 2)

    def ring(*, blocks, groups, classes, unimix, recompute, embed_dim, action_dim, **sizes):
        core = RingCore(stoch=groups * classes, action_dim=action_dim, reach=4, **sizes)
        latent = {"groups": groups, "classes": classes, "embed_dim": embed_dim}
        return wb.rssm.RSSM(core, wb.rssm.CategoricalLatent(**latent, **sizes))

    monkeypatch.setattr(wb.rssm, "dreamer_rssm", ring)
    return recipe.new(False).eval()


def played(agent, rows):
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, 4)
    return wb.evaluate.collect(policy, recipe.environments(recipe.CFG, 4, 1), rows)


def test_every_section_is_there(agent):
    sections = diagnose.examine(recipe, agent, recipe.CFG, played(agent, 32))
    assert len(sections) == 10
    assert all(section.findings for section in sections)
    assert len(diagnose.judge(agent, played(agent, 24), gamma=0.9, seen=played(agent, 24))) == 7


def test_windows_begin_with_the_memory_before_them(agent):
    """And the open loop continues from the observed rows of the window."""
    batch = played(agent, 43)
    with wb.distributions.modes(), torch.no_grad():
        start = agent.rssm.initial(4)
        embed = agent.encoder(batch.obs)
        states = agent.rssm.observe(start, embed, batch.prev_action, batch.is_first)
        cuts = diagnose.windows(batch, states, 20)
        assert isinstance(cuts.carry.memory, Ring)
        assert cuts.carry.memory.valid.dtype == torch.bool
        low = pytree.tree_map(lambda x: x.bfloat16() if x.is_floating_point() else x, cuts.carry)
        for carry, exact in ((cuts.carry, True), (low, False)):
            shown = diagnose.open_loop(agent, cuts._replace(carry=carry), context=5)
            whole = states[0, 1:6]
            assert isinstance(shown.memory, wb.rssm.Dropped)
            assert shown.deter.shape == (len(cuts.reward), 20, recipe.CFG.deter)
            close = {} if exact else {"rtol": 0.0, "atol": 0.05}
            torch.testing.assert_close(shown.deter[0, :5], whole.deter, **close)
        rest = wb.rssm.rollout(agent.rssm, states[:1, 5].carry, cuts.prev_action[:1, 5:])
        again = diagnose.open_loop(agent, cuts, context=5)
    torch.testing.assert_close(again[:1, 5:], rest)
