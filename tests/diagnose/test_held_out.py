import dataclasses

import pytest
import torch

import dreamerv3_atari as recipe
import worldblocks as wb
from square_world import SquareWorld
from worldblocks import diagnose

CFG = dataclasses.replace(recipe.PRESETS["smoke"], units=16, deter=16, groups=3, classes=5, depth=2)


@pytest.fixture
def agent():
    world = SquareWorld(obeys=True)
    return recipe.Agent(world.observation, world.action, CFG)


def played(agent, steps, environments=2):
    worlds = [SquareWorld(obeys=True) for _ in range(environments)]
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, environments)
    return wb.evaluate.collect(policy, wb.envs.EnvVector(worlds, seed=1), steps)


def test_rows_have_the_actions_that_led_to_them(agent):
    batch = played(agent, 30)
    assert batch.obs["image"].shape == (2, 30, 48, 48, 1)
    assert batch.is_first[:, 0].all()
    assert not batch.is_first[:, 1:].any()
    # The square is in the middle, which is rewarded, exactly where the last action put it there.
    assert torch.equal(batch.prev_action[:, 1:, 0], batch.reward[:, 1:])
    assert (batch.reward == (batch.obs["image"][:, :, 24, 24, 0] > 0)).all()


def test_a_report_stops_if_environments_fail_too_often(agent, monkeypatch, tmp_path):
    seen = played(agent, 9)
    monkeypatch.setattr(wb.envs.EnvVector, "stopped", "the wheel came off")
    with pytest.raises(wb.evaluate.Stopped, match="the wheel came off"):
        played(agent, 9)
    envs = wb.envs.EnvVector([SquareWorld(obeys=True)], seed=1)
    text = diagnose.report(tmp_path, agent, recipe.act, envs, steps=9, gamma=0.9, seen=seen)
    assert text == "no report: the wheel came off"


def test_no_report_on_an_agent_that_was_not_trained(agent, tmp_path):
    envs = wb.envs.EnvVector([SquareWorld(obeys=True)], seed=1)
    text = diagnose.report(tmp_path, agent, recipe.act, envs, steps=9, gamma=0.9, seen=None)
    assert text.startswith("no report: replay holds no window, so the agent was not trained; make")


def test_open_loop_observes_the_context_and_imagines_the_rest(agent):
    batch = played(agent, 9)._replace(carry=agent.rssm.initial(2))
    with wb.distributions.modes():
        states = diagnose.open_loop(agent, batch, context=4)
        embed = agent.encoder(batch.obs)
        post = agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)
        rest = wb.rssm.rollout(agent.rssm, post[:, 3].carry, batch.prev_action[:, 4:])
        torch.testing.assert_close(states[:, :4], post[:, :4])
        torch.testing.assert_close(states[:, 4:], rest)
        other = diagnose.open_loop(agent, batch, context=4, actions=batch.prev_action.flip(1))
    torch.testing.assert_close(other[:, :4], states[:, :4])
    assert not torch.equal(other.deter[:, 4:], states.deter[:, 4:])


def test_windows_continue_from_the_state_before(agent):
    batch = played(agent, 43)
    states = wb.rssm.State(*(torch.arange(2 * 43.0).view(2, 43, 1, 1),) * 3)
    cuts = diagnose.windows(batch, states, 20)
    assert cuts.reward.shape == (4, 20)
    assert torch.equal(cuts.reward[1], batch.reward[0, 21:41])
    assert cuts.carry.memory.flatten().tolist() == [0, 20, 43, 63]


def test_windows_do_not_cross_the_end_of_an_episode(agent):
    batch = played(agent, 43)
    first = batch.is_first.clone()
    first[0, 30] = True  # beyond the context of window 1 of environment 0
    first[1, 3] = True  # within the context of window 0 of environment 1
    states = wb.rssm.State(*(torch.zeros(2, 43, 1, 1),) * 3)
    cuts = diagnose.windows(batch._replace(is_first=first), states, 20)
    assert len(cuts.reward) == 3


def test_too_short_sequences(agent):
    states = wb.rssm.State(*(torch.zeros(2, 20, 1, 1),) * 3)
    with pytest.raises(
        ValueError, match="windows of 20 rows need sequences of at least 21, got 20"
    ):
        diagnose.windows(played(agent, 20), states, 20)


def test_episodes_shorter_than_a_window_skip_the_open_loop_checks(agent, monkeypatch, tmp_path):
    batch = played(agent, 60)
    batch.is_first[:, ::7] = True
    monkeypatch.setattr(diagnose.held_out, "collect", lambda *_: batch)
    envs = wb.envs.EnvVector([SquareWorld(obeys=True)], seed=1)
    text = diagnose.report(tmp_path, agent, recipe.act, envs, steps=60, gamma=0.9, seen=batch)
    skipped, *judged = text.splitlines()
    why = (
        "none of 4 held-out windows of 20 rows lies within one episode; this needs longer episodes"
    )
    assert skipped == f"INFO  open-loop prediction: skipped: {why}, or more rows"
    assert [line.split()[1] for line in judged] == ["reward", "correlation", "score:"]


def test_a_video_leaves_the_random_state_unchanged(agent):
    batch = played(agent, 20)._replace(carry=agent.rssm.initial(2))
    before = torch.get_rng_state()
    frames = diagnose.open_loop_video(agent, batch)
    assert frames.shape[0] == 20
    assert torch.equal(torch.get_rng_state(), before)


def test_a_video_needs_images():
    world = wb.spaces.Continuous((2,))
    blind = recipe.Agent({"vector": world}, {"arm": world}, CFG)
    message = r"observes images or grids, this one observes \['vector'\]: .* if agent.encoder.pict"
    with pytest.raises(ValueError, match=message):
        diagnose.open_loop_video(blind, None)


def test_judging_names_every_check(agent, monkeypatch):
    monkeypatch.setattr(diagnose.held_out, "SAMPLES", 2)
    batch = played(agent, 64)
    checks = diagnose.judge(agent, batch, gamma=0.9, seen=batch)
    assert [check.passed is None for check in checks] == [
        True,
        True,
        False,
        False,
        False,
        False,
        True,
    ]
    # An untrained model does not beat the mean frame.
    assert not checks[2].passed
