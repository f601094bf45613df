"""The findings of each section about predictions that are known to be right or wrong."""

from types import SimpleNamespace

import pytest
import torch
from point_recipe import CFG, new
from point_recipe import actor_critic_loss as right_actor_critic
from point_recipe import world_model_loss as right_world_model

import dreamerv3_atari
import worldblocks as wb
from worldblocks.diagnose.inputs import Inputs
from worldblocks.diagnose.sections import calibration, gradients, history, policy, prediction
from worldblocks.rssm import State

WINDOWS, TIME, GAMMA = 6, 20, 0.9


def batch(reward, is_last=None, is_terminal=None, actions=None):
    none = torch.zeros(reward.shape, dtype=torch.bool)
    actions = torch.randn(*reward.shape, 2) if actions is None else actions
    last, terminal = (none if x is None else x for x in (is_last, is_terminal))
    return wb.replay.Batch({}, actions, reward, none, last, terminal, None, None)


def inputs(rows, heads=None, **changes):
    zeros = torch.zeros(*rows.reward.shape, 1)
    heads = {name: lambda _, x=x: SimpleNamespace(mean=x) for name, x in (heads or {}).items()}
    cfg = SimpleNamespace(gamma=GAMMA, lam=0.95, entropy=1e-3, horizon=3)
    state = State(zeros, zeros[..., None], zeros[..., None])
    known = {"recipe": None, "agent": SimpleNamespace(**heads), "cfg": cfg, "batch": rows}
    known |= {"post": state, "windows": None, "predictions": None, "training": None}
    return Inputs(**known | changes)


def lights(findings):
    return [finding.light for finding in findings]


def test_predictions():
    """A random walk: only a model that knows the steps beats repeating the last row."""
    truth = torch.randn(WINDOWS, TIME, 3).cumsum(1)
    mixed = truth + torch.randn_like(truth) * 2
    rows = batch(torch.zeros(WINDOWS, TIME))

    def found(right, wrong, seen, rows=rows):
        return prediction.found("vector", rows, truth, right, wrong, seen)

    assert lights(found(truth, mixed, truth)) == ["green", "green", "green"]
    assert lights(found(truth, truth, truth)) == ["green", "red", "green"]  # ignores actions
    lost = torch.cat([truth[:, :10], truth[:, 10:] + 99], 1)
    assert lights(found(lost, mixed + 150, truth + 99)) == ["amber", "green", "red"]
    same = batch(rows.reward, actions=torch.ones(WINDOWS, TIME, 2))
    always = found(truth, mixed, truth, same)[1]
    assert (always.light, always.symptom) == ("grey", "")
    still = torch.ones(WINDOWS, TIME, 3)
    [nothing] = prediction.found("vector", rows, still, still, still, still)
    assert nothing.number == "nothing changes within 15 steps, so every guess is right"


def test_errors_by_hand():
    """The first imagined row is row 5; an error of 0.1 k there gives 0.01 k²."""
    truth = torch.zeros(2, TIME, 4)
    guess = (0.1 * (torch.arange(TIME) - 4)).reshape(1, TIME, 1).expand_as(truth)
    steps = torch.arange(1.0, 16)
    torch.testing.assert_close(prediction.errors(guess, truth)[0], 0.01 * steps**2)


def test_rewards():
    reward = torch.zeros(2, 60)
    reward[:, ::6] = torch.randn(2, 10).abs() + 1
    for guess, expected in (
        (reward, ["green", "green"]),
        (torch.zeros_like(reward), ["red", "green"]),
        (reward.mean().expand_as(reward), ["red", "amber"]),
        (reward.roll(1, 1), ["red", "amber"]),  # one row late
        (reward * torch.nan, ["red", "red"]),
    ):
        section = calibration.reward_section(inputs(batch(reward), {"reward": guess}))
        assert lights(section.findings) == expected
    # A constant reward only needs the right size.
    ones = torch.ones(2, 60)
    section = calibration.reward_section(inputs(batch(ones), {"reward": 0.9 * ones}))
    assert lights(section.findings) == ["green"]
    none = calibration.reward_section(inputs(batch(0 * ones), {"reward": ones})).findings[0]
    assert none.number.startswith("only 0 non-zero rewards: increase --steps")


def values(rows):
    """The exact returns of `rows`, by a loop from the end."""
    value = torch.zeros_like(rows.reward)
    for t in reversed(range(rows.reward.shape[1] - 1)):
        ahead = rows.reward[:, t + 1] + GAMMA * value[:, t + 1]
        value[:, t] = torch.where(rows.is_terminal[:, t], 0.0, ahead)
    return value


def test_values():
    reward = torch.randn(3, 80) + 1
    end = torch.zeros(3, 80, dtype=torch.bool)
    end[:, 39] = True
    rows = batch(reward, end, end)
    exact = values(rows)
    claim, real, steps = calibration.predicted_returns(inputs(rows, {"value": exact}))
    assert steps == 10
    torch.testing.assert_close(claim, real)  # across an end, and up to the end of the data
    for value, expected in (
        (exact, ["green", "green"]),
        (4 * exact, ["green", "red"]),
        (-exact, ["red", "amber"]),
        (0 * exact, ["red", "amber"]),
    ):
        assert (
            lights(calibration.value_section(inputs(rows, {"value": value})).findings) == expected
        )
    double = calibration.value_section(inputs(rows, {"value": 2 * exact})).findings[1]
    assert double.symptom == "high"
    ones = batch(torch.ones(3, 80))
    section = calibration.value_section(inputs(ones, {"value": torch.full((3, 80), 10.0)}))
    assert lights(section.findings) == ["grey", "green"]
    none = calibration.value_section(inputs(batch(0 * reward), {"value": exact})).findings
    assert {finding.number for finding in none} == {"these episodes have no reward"}


def test_continuation():
    end = torch.zeros(2, 30, dtype=torch.bool)
    end[:, 15] = True
    rows = batch(torch.zeros(2, 30), end, end)
    alive = torch.full((2, 30), GAMMA)
    for guess, expected in (
        (alive * ~end, ["green", "green"]),
        (alive, ["red", "green"]),
        (0.8 * ~end, ["green", "green"]),  # a horizon of 5 rows instead of 10
        (0.5 * ~end, ["green", "red"]),
        (0.9999 * ~end, ["green", "red"]),
    ):
        section = calibration.continue_section(inputs(rows, {"cont": guess}))
        assert lights(section.findings) == expected
    rows = batch(torch.zeros(2, 30))
    assert lights(calibration.continue_section(inputs(rows, {"cont": alive})).findings)[0] == "grey"


def test_return_scale():
    scale = wb.normalize.PercentileScale()
    assert lights(policy._range(scale, 5.0, 4.0)) == ["grey", "grey"]
    scale.weight.fill_(1.0)
    assert lights(policy._range(scale, 5.0, 4.0)) == ["green", "green"]
    floor, current = policy._range(scale, 0.2, 0.01)
    assert floor.number == "0.2; floor 1, reached"
    assert current.light == "green"  # both ranges are below the floor
    # A smaller current range is usual: the agent plays better than replay. With a larger one the
    # advantages are too large.
    assert policy._range(scale, 50.0, 4.0)[1].light == "green"
    assert [policy._range(scale, 2.0, now)[1].light for now in (7.0, 11.0)] == ["amber", "red"]


@pytest.mark.parametrize(
    ("rewards", "returns", "light"),
    [
        ((0.0, 1.0), (0.0, 10.0), "green"),  # γ is 0.9: 0 to 10 by the rewards
        ((0.0, 1.0), (-0.4, 10.9), "green"),
        ((0.0, 1.0), (-0.6, 10.0), "red"),
        ((0.0, 1.0), (0.0, 11.1), "red"),
        ((-2.0, 1.0), (-20.0, 10.0), "green"),
        ((-2.0, -1.0), (-20.0, 0.9), "green"),
        ((-2.0, -1.0), (-20.0, 1.1), "red"),
        ((0.0, 1e-3), (0.0, 0.02), "red"),
        ((0.0, 1.0), (0.0, float("nan")), "red"),
        ((0.0, 0.0), (-5.0, 5.0), "grey"),
    ],
)
def test_returns_beyond_the_reward_bounds(rewards, returns, light):
    reward = torch.tensor([rewards]).repeat(2, 10)
    finding = policy.within_rewards("returns", torch.tensor(returns), inputs(batch(reward)))
    assert (finding.light, finding.symptom) == (light, "bounds" * (light == "red"))
    lines = [{"step": 1}, {"step": 2, **dict(zip(history.RETURNS, returns, strict=True))}]
    assert lights(history._returns(inputs(batch(reward)), lines)) == [light]
    assert history._returns(inputs(batch(reward)), lines[:1]) == []


@pytest.mark.parametrize(("off", "light"), [(0.0, "green"), (1e-6, "red")])
def test_a_head_whose_far_bins_do_not_cancel_is_red(off, light):
    """Mirrored logits that differ by 1e-6 move a mean over bins of ±4.9e8 by -1.9."""
    agent = new(False).eval()
    with torch.no_grad():
        agent.value.out.bias[0] += off
    rows = batch(torch.ones(2, 5))
    post = agent.rssm.initial(2)
    post = State(*(x[:, None].expand(-1, 5, *x.shape[1:]) for x in (*post, post.stoch)))
    section = policy.scale_section(inputs(rows, agent=agent, cfg=CFG, post=post))
    assert section.findings[0].light == light


def test_gradients():
    """A leaked, a non-finite and a missing gradient, each at its place."""
    agent = new(False)
    with torch.no_grad():  # the last layer of a head is initialised to 0
        for head in (agent.reward, agent.value):
            head.out.weight.normal_()
    rows = batch(torch.zeros(2, 5))._replace(
        obs={
            "point": torch.randn(2, 5, 2),
            "far": torch.randn(2, 5),
            "side": torch.zeros(2, 5, dtype=torch.int64),
        },
        carry=agent.rssm.initial(2),
    )

    def bad_world_model(agent, batch, cfg):
        post, losses, _ = right_world_model(agent, batch, cfg)
        return (
            post,
            losses | {"cont": losses["cont"].detach(), "obs": losses["obs"] * torch.nan},
            {},
        )

    def bad_actor_critic(agent, post, batch, cfg):
        losses, _ = right_actor_critic(agent, post, batch, cfg)
        return losses | {"actor": losses["actor"] + agent.value(post.feature()).mean.mean()}, {}

    good = SimpleNamespace(world_model_loss=right_world_model, actor_critic_loss=right_actor_critic)
    bad = SimpleNamespace(world_model_loss=bad_world_model, actor_critic_loss=bad_actor_critic)
    given = {"agent": agent, "cfg": CFG, "training": rows}
    section = gradients.section(inputs(rows, recipe=good, **given))
    assert lights(section.findings) == ["green", "green", "green"]
    section = gradients.section(inputs(rows, recipe=bad, **given))
    assert [finding.number for finding in section.findings] == [
        "obs at encoder, obs at rssm, obs at decoder",
        "actor at encoder, actor at rssm, actor at value",
        "cont at encoder, cont at rssm, cont at cont",
    ]


def test_the_table_of_gradients_is_the_recipes():
    """Every loss of the recipe has a row, every trained module a column."""
    agent = new(False)
    modules = {
        name for name, m in agent.named_children() if any(p.requires_grad for p in m.parameters())
    }
    assert set().union(*gradients.REACHES.values()) == modules
    source = dreamerv3_atari.Path(dreamerv3_atari.__file__).read_text()
    assert all(f'"{loss}":' in source for loss in gradients.REACHES)


@pytest.mark.parametrize(
    ("scores", "light"),
    [(range(24), "green"), (range(24, 0, -1), "red"), ([1, 2] * 12, "amber"), ([3] * 5, "grey")],
)
def test_scores(scores, light):
    assert history._score([{"step": i, "score": x} for i, x in enumerate(scores)]).light == light
