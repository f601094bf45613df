"""The loops of the recipes that learn from replay, against a table of expected events.

A deterministic fault survives a comparison of a resumed run with an uninterrupted one. Here a toy
world, tiny sizes and numbers worked out by hand fix what has to happen at which step.
"""

import dataclasses
import functools
from typing import Any

import pytest
import torch
from loop_table import BATCH, ENVS, EVENTS, LENGTH, LOOPS, Loop, Played, due
from recorded_runs import check_carries, frozen, recorded
from tiny_runs import same

import glam


@pytest.fixture(scope="module", params=LOOPS)
def played(request, tmp_path_factory):
    torch.manual_seed(11)  # without effect: a run seeds itself
    return Played(LOOPS[request.param], tmp_path_factory.mktemp("runs") / "run")


def test_every_event_happens_at_its_step(played):
    assert " ".join(played.run.names(*EVENTS)) == played.loop.events()


def test_positions_and_lines_name_the_step(played):
    saved = [event.position for event in played.run.named("save")]
    steps = [2 * turn for turn in range(len(played.loop.updates) + 1) if turn and due(turn, 20)]
    assert [position["step"] for position in saved] == [*steps, played.loop.cfg.steps]
    made = [sum(played.loop.updates[: position["step"] // 2]) for position in saved]
    assert [position["updates"] for position in saved] == made
    lines = played.run.named("log")
    every = played.loop.cfg.log_every
    logged = [2 * turn for turn in range(1, len(played.loop.updates) + 1) if due(turn, every)]
    assert [line.step for line in lines] == logged
    counts = [sum(played.loop.updates[: line.step // 2]) for line in lines]
    assert [line.figures["updates"] for line in lines] == counts


def test_rows_in_replay_are_those_of_the_environments(played):
    streams = played.run.streams()
    assert len(streams) == played.loop.tasks
    for turns in streams:
        for rows, _, add, _ in turns:
            for name, value in rows._asdict().items():
                same(add.row[name], value, name)
        assert sum(int(rows.is_first.sum()) for rows, *_ in turns) > 2 * ENVS


def test_the_stored_carry_is_that_of_its_row(played):
    for turns in played.run.streams():
        check_carries(turns)


def test_no_noise_is_drawn_twice(played):
    for name in ("act", "update"):
        drawn = {bytes(event.rng.numpy()) for event in played.run.named(name)}
        assert len(drawn) == len(played.run.named(name))


def test_windows_begin_with_the_newest_carry(played):
    """The carry stored with the row before, or written back to it since."""
    newest: dict[Any, Any] = {}
    added: dict[int, int] = {}
    refreshed = 0
    for event in played.run.named("add", "sample", "write_back"):
        key = id(event.replay)
        if event.name == "add":
            row = added[key] = added.get(key, 0) + ENVS
            newest |= {
                (key, row - ENVS + i): [x[i] for x in event.row["carry"]] for i in range(ENVS)
            }
        elif event.name == "write_back":
            flat = [leaf.flatten(0, 1) for leaf in event.carry]
            refreshed += event.row.numel()
            for i, row in enumerate(event.row.flatten().tolist()):
                newest[key, row] = [leaf[i] for leaf in flat]
        else:
            for i, row in enumerate(event.batch.row[:, 0].tolist()):
                for ours, stored in zip(newest[key, row - ENVS], event.batch.carry, strict=True):
                    assert torch.equal(ours, stored[i])
    assert refreshed == BATCH * LENGTH * sum(played.loop.updates)


def test_an_update_takes_the_sampled_windows_and_their_carry(played):
    run, tasks = played.run, played.loop.tasks
    drawn = [event.batch for event in run.named("sample") if event.length is None]
    for i, update in enumerate(run.named("update")):
        given = next(x for x in update.args if hasattr(x, "_fields"))
        batch, parts = getattr(given, "batch", given), drawn[tasks * i : tasks * (i + 1)]
        packed = [torch.cat(leaves) for leaves in zip(*(x.carry for x in parts), strict=True)]
        same(list(update.agent.rssm.pack(batch.carry)), packed, "carry")
        for name in ("prev_action", "reward", "is_first", "is_last", "is_terminal"):
            same(getattr(batch, name), torch.cat([getattr(x, name) for x in parts]), name)
        for name, value in batch.obs.items():
            same(value, torch.cat([x.obs[name] for x in parts]), name)


def test_latents_of_an_update_are_written_to_the_sampled_rows(played):
    run, tasks = played.run, played.loop.tasks
    drawn = [event for event in run.named("sample") if event.length is None]
    wrote, updates = run.named("write_back"), run.named("update")
    pack = updates[0].agent.rssm.pack
    for i, update in enumerate(updates):
        here = slice(tasks * i, tasks * (i + 1))
        rows = [event.batch.row for event in drawn[here]]
        assert [event.replay for event in wrote[here]] == [e.replay for e in drawn[here]]
        assert all(torch.equal(e.row, row) for e, row in zip(wrote[here], rows, strict=True))
        assert sum(map(len, rows)) == BATCH
        post = pack(update.result[0].carry)
        whole = zip(*(event.carry for event in wrote[here]), strict=True)
        same([torch.cat(parts) for parts in whole], list(post), "carry")


def test_an_update_moves_the_slow_critic_by_its_rate(played):
    """slow <- 0.98 slow + 0.02 critic, after each step of the critic."""
    for update in played.run.named("update"):
        slow = {name for name, x in update.after.items() if "slow_value." in name and x.ndim}
        assert len(slow) >= played.loop.tasks
        for name in slow:
            online = name.replace("slow_value.copy.", "value.")
            before, critic = update.before[name], update.after[online]
            moved = torch.lerp(before, critic, 0.02)
            torch.testing.assert_close(update.after[name], moved, rtol=1e-5, atol=1e-8)
        assert any(not torch.equal(update.after[name], update.before[name]) for name in slow)


def test_metrics_of_each_update_reach_the_lines(played):
    waiting, lines, updates = [], 0, iter(played.run.named("update"))
    for event in played.run.named("metrics", "log"):
        if event.name == "metrics":
            same(event.metrics, next(updates).result[1], "metrics")
            waiting.append(event.metrics)
            continue
        for name in waiting[0] if waiting else ():
            mean = sum(float(metrics[name]) for metrics in waiting) / len(waiting)
            assert event.figures[name] == pytest.approx(mean, rel=1e-5, abs=1e-7)
        lines, waiting = lines + bool(waiting), []
    assert lines >= 1
    assert next(updates, None) is None


def test_episodes_are_logged_as_they_end(played):
    ended = []
    for turn, event in enumerate(played.run.named("receive"), 1):
        step = ENVS * -(-turn // played.loop.tasks)
        ended += [(step, episode.score, episode.length) for episode in event.finished]
    logged = [(e.step, e.score, e.length) for e in played.run.named("episode")]
    assert logged == ended
    assert len(ended) >= 8


def test_updates_get_the_configuration_of_the_run(played):
    for update in played.run.named("update"):
        given = [*update.args, *update.options.values()]
        cfg = [x for x in given if isinstance(x, played.loop.recipe.Config)]
        changed = {"logdir": "", "instruction": "", "mission": ""}  # set when the run begins
        changed = {key: x for key, x in changed.items() if hasattr(cfg[0], key)}
        assert [dataclasses.replace(x, **changed) for x in cfg] == [played.loop.cfg]


def test_act_draws_a_sample_or_takes_the_mode(played):
    """Of the policy at the posterior state; each call draws anew."""
    (rows, act, *_), *_ = played.run.streams()[0]
    agent = act.agent
    heads = played.loop.recipe is glam
    more = {"heads": [0, 1]} if heads else {}
    fixed = frozen(agent.initial(ENVS))
    choose = functools.partial(played.loop.recipe.act, agent, rows.obs, fixed, rows.is_first)
    drawn = [choose(**more) for _ in range(20)]
    assert len({tuple(action.flatten().tolist()) for action, _ in drawn}) > 1
    torch.manual_seed(5)
    with torch.no_grad():
        mode, _ = choose(mode=True, **more)
        torch.manual_seed(5)
        embed = agent.encoder({key: rows.obs[key] for key in agent.encoder.keys})
        state = agent.rssm.observe_step(fixed.dynamics, embed, fixed.prev_action, rows.is_first)
        parts = state.feature().split(1)
    actors = [agent.heads[str(h)].actor for h in (0, 1)] if heads else [agent.actor] * ENVS
    modes = [actor(x).mode for actor, x in zip(actors, parts, strict=True)]
    assert torch.equal(mode, torch.cat(modes))
    assert len({str(c.dynamics.stoch.tolist()) for _, c in drawn}) > 1, (
        "the posterior is drawn anew"
    )


# ------------------------------------------------------------------ seeds


def reset_seeds(loop: Loop, folder: Any, **changes: Any) -> tuple[set[int], set[int], Any]:
    """Seeds of the training episodes, and of the evaluation episodes after them."""
    judged = {"judge": 1} if hasattr(loop.cfg, "judge") else {}
    judged |= {"report_steps": 240} if hasattr(loop.cfg, "report_steps") else {}
    cfg = dataclasses.replace(loop.cfg, **{**judged, "steps": 12, **changes})
    run = recorded(loop.recipe, cfg, folder)
    names = [event.name for event in run.events]
    end = len(names) - names[::-1].index("save")
    first = names.index("open") if "begin" in names else 0
    trained = {e.seed for e in run.events[first:end] if e.name == "reset"}
    return trained, {e.seed for e in run.events[end:] if e.name == "reset"}, run


@pytest.mark.parametrize("name", LOOPS)
def test_runs_of_two_seeds_and_their_evaluations_share_no_episode(name, tmp_path):
    found = [reset_seeds(LOOPS[name], tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    (ours, held_out, first), (theirs, others, second) = found
    assert len(ours) >= 2 * ENVS
    assert len(held_out) >= 1
    assert not ours & theirs
    assert not held_out & (ours | theirs)
    assert not others & (ours | theirs)
    one, two = (run.named("act")[0] for run in (first, second))
    assert not torch.equal(one.rng, two.rng)
    for key, value in one.weights.items():
        if key.endswith("core.dynamics_in.weight"):
            assert not torch.equal(value, two.weights[key])
