"""Heads of tasks: added, copied, removed; one task's agent; padded policies."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import worldblocks as wb
from worldblocks.spaces import Continuous, Discrete
from worldblocks.tasks import OneTask, PaddedActor, TaskHeads, dreamer_head

FEATURE, WIDTH = 7, 6
ARM, LEGS = {"arm": Continuous((2,))}, {"leg": Discrete(3), "toe": Continuous((2,))}
BARE = {"reward": nn.Identity(), "actor": nn.Identity(), "value": nn.Identity()}
BARE |= {"slow_value": nn.Identity(), "return_scale": nn.Identity()}


def head(actions=ARM, **options):
    return dreamer_head(FEATURE, actions, units=5, width=WIDTH, **options)


def heads():
    made = TaskHeads()
    made.add("walk", head())
    made.add("run", head(LEGS))
    return made


def test_in_the_order_in_which_they_came():
    made = heads()
    assert made.names == list(made) == ["walk", "run"]
    assert len(made) == 2
    assert "walk" in made
    assert "fly" not in made
    made.remove("walk")
    made.copy("run", "walk")
    assert made.names == ["run", "walk"]


def test_a_copy_begins_equal_and_shares_nothing():
    made = heads()
    made.copy("walk", "stroll")
    ours, theirs = made["stroll"].state_dict(), made["walk"].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with torch.no_grad():
        for parameter in made["stroll"].parameters():
            parameter += 1
    before = {name: x.clone() for name, x in theirs.items()}
    assert all(torch.equal(before[name], x) for name, x in made["walk"].state_dict().items())


@given(st.permutations(["add", "copy", "remove"]))
def test_what_others_do_changes_no_head(orders):
    made = heads()
    made.add("gone", head())
    before = copy.deepcopy(made["run"].state_dict())
    for order in orders:
        if order == "add":
            made.add("new", head())
        elif order == "copy":
            made.copy("run", "like run")
        else:
            made.remove("gone")
    assert all(torch.equal(before[name], x) for name, x in made["run"].state_dict().items())


def test_one_task_is_the_world_and_its_head_under_their_own_names():
    agent = nn.Module()
    agent.encoder, agent.heads = nn.Linear(3, FEATURE), heads()
    one = OneTask(agent, "run", name="run")
    parts = ["encoder", "reward", "actor", "value", "slow_value", "return_scale"]
    assert [name for name, _ in one.named_children()] == parts
    assert one.encoder is agent.encoder
    assert one.value is agent.heads["run"].value
    assert one.name == "run"
    one.reward(agent.encoder(torch.ones(4, 3))).nll(torch.ones(4)).sum().backward()
    assert agent.heads["run"].reward.out.weight.grad is not None
    assert agent.heads["walk"].reward.out.weight.grad is None


def test_the_named_head_is_that_of_the_reference():
    made = head(return_floor=0.5, slow_rate=0.1)
    assert [len(part.mlp) for part in (made.reward, made.value, made.actor.actor)] == [1, 3, 3]
    assert (made.slow_value.rate, made.return_scale.floor) == (0.1, 0.5)
    assert not any(p.requires_grad for p in made.slow_value.parameters())


def test_a_padded_policy_is_the_policy_and_zeros():
    actor = wb.heads.ActorHead(FEATURE, LEGS, units=5, layers=1, outscale=1.0)
    padded = PaddedActor(actor, width=WIDTH)
    feature = torch.randn(4, 3, FEATURE)
    ours, theirs = padded(feature), actor(feature)
    torch.manual_seed(3)
    action = ours.sample()
    torch.manual_seed(3)
    assert torch.equal(action[..., :5], theirs.sample())
    for x in (action, ours.mode, ours.mean):
        assert x.shape == (4, 3, WIDTH)
        assert not x[..., 5:].any()
    assert torch.equal(ours.mode[..., :5], theirs.mode)
    assert torch.equal(ours.log_prob(action), theirs.log_prob(action[..., :5]))
    assert torch.equal(ours.nll(action), -ours.log_prob(action))
    assert torch.equal(ours.entropy(), theirs.entropy())
    part = ours[:, 1:]
    assert torch.equal(part.log_prob(action[:, 1:]), ours.log_prob(action)[:, 1:])
    assert not ours.detach().entropy().requires_grad


@given(st.integers(0, 2))
def test_what_follows_an_action_does_not_count(place):
    """The mask: the probability of an action does not depend on its padding."""
    padding = nn.functional.one_hot(torch.tensor(place), 4).float()
    actor = wb.heads.ActorHead(FEATURE, ARM, units=5, layers=1)
    policy = PaddedActor(actor, width=WIDTH, padding=padding)(torch.ones(3, FEATURE))
    action = policy.sample()
    assert torch.equal(action[:, 2:], padding.expand(3, -1))
    other = torch.cat([action[:, :2], torch.randn(3, 4)], -1)
    assert torch.equal(policy.log_prob(action), policy.log_prob(other))


def test_padded_policies_compile(same_when_compiled):
    padded = head(LEGS).actor

    def both(feature):
        policy = padded(feature)
        return policy.mode, policy.entropy(), policy.log_prob(policy.mode)

    same_when_compiled(both, torch.randn(4, FEATURE), module=padded)


def test_in_bfloat16_samples_are_float32():
    with torch.autocast("cpu", torch.bfloat16):
        policy = head(LEGS).actor(torch.randn(4, FEATURE))
        assert policy.sample().dtype == torch.float32
        assert torch.isfinite(policy.log_prob(policy.sample())).all()


def test_gradient_reaches_every_weight_of_the_policy():
    actor = head(LEGS).actor
    policy = actor(torch.randn(4, FEATURE))
    (policy.log_prob(policy.sample().detach()) + policy.entropy()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in actor.parameters())


def test_messages():
    made = heads()
    with pytest.raises(ValueError, match="a head of 'walk' already; remove it, or name another"):
        made.add("walk", head())
    with pytest.raises(KeyError, match=r"no head of a task 'fly'; there are heads of \['walk', 'r"):
        made["fly"]
    for name in ("", "a.b", "keys"):
        with pytest.raises(ValueError, match="cannot be the name of a task, whose head is a modul"):
            made.add(name, head())
    agent = nn.Module()
    agent.reward, agent.heads = nn.Identity(), made
    with pytest.raises(ValueError, match=r"'walk' and the shared modules both have \['reward'\]"):
        OneTask(agent, "walk")
    actor = wb.heads.ActorHead(FEATURE, LEGS, units=5, layers=1)
    with pytest.raises(
        ValueError, match="action of 5 numbers does not fit a world model of 4; make"
    ):
        PaddedActor(actor, width=4)
    with pytest.raises(ValueError, match="a world model of 6 takes a padding of 1, got 2"):
        PaddedActor(actor, width=6, padding=torch.zeros(2))


def test_a_head_is_any_five_modules():
    assert [name for name, _ in wb.tasks.TaskHead(**BARE).named_children()] == list(BARE)
