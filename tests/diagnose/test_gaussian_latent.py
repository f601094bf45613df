"""The page about an agent with a Gaussian latent."""

import math

import point_recipe as recipe
import pytest
import torch

import worldblocks as wb
from worldblocks import diagnose
from worldblocks.diagnose import inputs
from worldblocks.diagnose.page.causes import SYMPTOMS
from worldblocks.diagnose.sections import kl, latent
from worldblocks.distributions import Bernoulli, Normal, OneHot

KEYS = ["prediction", "kl", "units", "reward", "value", "continue", "scale", "entropy"]
KEYS += ["gradients", "history"]


@pytest.fixture
def agent(monkeypatch):
    monkeypatch.setattr(inputs, "SAMPLES", 2)
    monkeypatch.setattr(diagnose.held_out, "SAMPLES", 2)

    def gaussian(*, blocks, groups, classes, unimix, **sizes):
        return wb.rssm.gaussian_rssm(stoch=6, **sizes)

    monkeypatch.setattr(wb.rssm, "dreamer_rssm", gaussian)
    return recipe.new(False)


def played(agent, rows=32):
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, 4)
    return wb.evaluate.collect(policy, recipe.environments(recipe.CFG, 4, 1), rows)


def test_the_page_is_about_dimensions(agent, tmp_path):
    sections = diagnose.examine(recipe, agent, recipe.CFG, played(agent))
    assert [section.key for section in sections] == KEYS
    text = diagnose.write_page(tmp_path / "page.html", "a run", {}, sections).read_text()
    assert "Latent dimensions" in text
    assert "nan" not in text
    findings = {finding.name: finding for section in sections for finding in section.findings}
    divergence = findings["KL between posterior and prior"]
    assert (divergence.light, divergence.number.endswith("nats per row")) == ("green", True)
    assert "no upper limit" in divergence.rule
    for section in sections:
        for finding in section.findings:
            wrong = finding.light in ("red", "amber")
            assert (finding.symptom in SYMPTOMS[section.key]) == wrong, finding


def test_a_latent_without_information_is_red(agent):
    with torch.no_grad():
        for out in (agent.rssm.latent.prior_out, agent.rssm.latent.posterior_out):
            out.weight.zero_()
    seen = inputs.prepare(recipe, agent.eval(), recipe.CFG, played(agent, 8))
    assert [finding.light for finding in kl.section(seen).findings] == ["red", "amber"]
    assert [finding.light for finding in latent.section(seen).findings] == ["red", "red"]


def test_an_agent_can_be_judged(agent):
    batch = played(agent, 24)
    checks = diagnose.judge(agent, batch, gamma=0.9, seen=batch)
    assert len(checks) == 7


# -------------------------------------------------------------------------------------------- units


def test_information_by_hand():
    """Means one standard deviation from 0 on both sides: ln sqrt(2). A constant mean: 0."""
    mean = torch.tensor([[1.0, 5.0], [-1.0, 5.0]])
    nats = latent.information(mean, torch.ones(2, 2))
    torch.testing.assert_close(nats, torch.tensor([0.5 * math.log(2), 0.0]))


def test_active_dimensions():
    """Three of five active: 40% are inactive, which is green. One of five is amber, none is red."""
    moving, still = torch.randn(3, 50, 5), torch.zeros(3, 50, 5)
    for count, light in ((3, "green"), (1, "amber"), (0, "red")):
        mean = torch.cat([moving[..., :count], still[..., count:]], -1)
        section = latent.gaussian(Normal(mean, torch.full_like(mean, 0.5), event=1))
        assert section.findings[0].light == light
        assert section.findings[1].light == ("green" if count else "red")


def test_the_capacity_of_a_latent():
    assert kl.capacity(OneHot(torch.zeros(2, 3, 5, 4), event=1)) == 5 * math.log(4)
    assert kl.capacity(Normal(torch.zeros(2, 3), torch.ones(2, 3), event=1)) == math.inf


def test_another_latent_is_grey(agent):
    """There is no check for a latent of bits, and the section says so."""
    seen = inputs.prepare(recipe, agent.eval(), recipe.CFG, played(agent, 8))
    seen.agent.rssm.posterior = lambda state: Bernoulli(state.parameters[0], event=1)
    section = latent.section(seen)
    assert section.light == "grey"
    assert section.findings[0].number.endswith("a latent that is a Bernoulli")
