"""Heads with an output of their own, written from the documentation alone: the files that the page
"Swap a block" shows."""

import functools
from types import SimpleNamespace

import pytest
import torch
from binned_actor import BinnedActor, Bins
from quantile_head import QuantileHead, Quantiles

import worldblocks as wb
from worldblocks import distributions as dists
from worldblocks import testing
from worldblocks.diagnose.sections.policy import entropy_section

ACTIONS = {"arm": wb.spaces.Continuous((2,)), "jump": wb.spaces.Discrete(3)}
MLP = {"units": 16, "layers": 1}


def median(output):
    return output.value.median(-1).values


def shares(batch):
    return torch.linspace(0.1, 0.9, batch)


def moves(batch):
    arm = torch.linspace(-1, 1, 11)[torch.arange(2 * batch) % 11].view(batch, 2)
    return torch.cat([arm, torch.eye(3)[torch.arange(batch) % 3]], -1)


def bins(raw):
    return Bins(raw.unflatten(-1, (2, 4)), event=1)


def joint(raw):
    return dists.Joint({"arm": bins(raw[..., :8]), "jump": dists.OneHot(raw[..., 8:])})


critic = functools.partial(QuantileHead, 6, **MLP, quantiles=5)
actor = functools.partial(BinnedActor, 6, ACTIONS, **MLP)
test_quantiles = testing.suite(testing.check_distribution, Quantiles, size=5, target=median)
test_quantile_head = testing.suite(testing.check_head, critic, feature_dim=6, target=shares)
test_bins = testing.suite(testing.check_distribution, bins, size=8)
test_joint_of_bins = testing.suite(testing.check_distribution, joint, size=11)
test_binned_actor = testing.suite(testing.check_head, actor, feature_dim=6, target=moves)


def test_quantiles_by_hand():
    """Fractions 1/4 and 3/4: a target of 2 is 1 above the lower, 2 below the upper quantile."""
    output = Quantiles(torch.tensor([1.0, 4.0]))
    assert output.mean.item() == 2.5
    assert output.nll(torch.tensor(2.0)).item() == (0.25 * 1 + 0.25 * 2) / 2


def test_a_joint_takes_parts_of_any_kind():
    policy = actor()(torch.randn(4, 6))
    action = policy.sample()
    assert {k: tuple(x.shape) for k, x in policy.split(action).items()} == {
        "arm": (4, 2),
        "jump": (4, 3),
    }
    assert torch.isin(action[:, :2], torch.linspace(-1, 1, 11)).all()


class Plain(dists.Output):
    """A policy of one part that has an entropy, and neither classes nor a standard deviation."""

    def __init__(self, feature):
        super().__init__(event=1)
        self.feature = feature

    def entropy(self):
        return 0 * self.feature.sum(-1) + 1.5


def findings(actor):
    agent = SimpleNamespace(actor=actor)
    seen = SimpleNamespace(agent=agent, feature=torch.randn(2, 5, 6))
    section = entropy_section(seen)
    assert len(section.figures) == sum(found.light != "grey" for found in section.findings)
    return {found.name: found for found in section.findings}


def test_diagnose_judges_a_policy_by_what_it_has():
    found = findings(actor())
    assert list(found) == ["entropy of 'arm'", "entropy of 'jump'"]
    assert [one.light for one in found.values()] == ["amber", "amber"]  # uniform at first
    [grey] = findings(Plain).values()
    assert (grey.name, grey.light) == ("entropy of 'action'", "grey")
    assert grey.number == "1.5 nats; no bounds to compare it with"


def test_a_string_is_no_list_of_tensors():
    message = r"^Mine.tensors is the string 'x'; write a tuple, \('x',\)$"
    with pytest.raises(TypeError, match=message):

        class Mine(dists.Output):
            tensors = "x"


def test_a_mistake_in_a_property_is_named():
    class Mine(dists.Output):
        @property
        def mean(self):
            return self.valeu

    with pytest.raises(AttributeError, match=r"^Mine has no 'valeu'; it has mean, nll$"):
        _ = Mine().mean


def test_an_output_that_names_no_tensors_says_so():
    class Mine(dists.Output):
        pass

    for use in (lambda output: output[0], lambda output: output.detach()):
        with pytest.raises(AttributeError, match=r"Mine does not name its tensors.*tensors = \("):
            use(Mine())
