"""Loops with several tasks or candidates: rows, heads and outcomes belong to the right one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loop_table import BATCH, ENVS, LOOPS, Played
from recorded_runs import recorded
from tiny_runs import same
from toy_world import FEATURES

import worldblocks as wb
from worldblocks.language.posterior import Successes

# ------------------------------------------------------------------ several tasks


@pytest.fixture(scope="module", params=["multitask_dmc", "multitask_atari"])
def tasks(request, tmp_path_factory):
    return Played(LOOPS[request.param], tmp_path_factory.mktemp("runs") / "run")


def chances(events, task):
    """The numbers that the toys of a task observed."""
    mine = [e.seed for e in events if e.name == "reset" and e.toy.made["what"] == task]
    return {float(np.float32(np.random.default_rng(seed).uniform())) for seed in mine}


def test_rows_of_a_task_go_to_its_own_replay_and_are_drawn_from_there(tasks):
    names = tasks.loop.cfg.tasks
    own = {task: chances(tasks.run.events, task) for task in names}
    assert not own[names[0]] & own[names[1]]
    replays = {}
    add = None
    for event in tasks.run.named("add", "route"):
        if event.name == "add":
            add = event
            continue
        assert event.replay is add.replay
        replays[event.task] = event.replay
        assert {*add.row["obs"]["vector"][:, 0].tolist()} <= own[event.task]
    assert list(replays) == list(names)
    counts = []
    for update in tasks.run.named("update"):
        mixture = update.args[2]
        counts.append(tuple((mixture.task == place).sum().item() for place in range(2)))
        for place, rows in zip(mixture.task.tolist(), mixture.batch.obs["vector"], strict=True):
            assert {*rows[:, 0].tolist()} <= own[names[place]]
    assert {sum(count) for count in counts} == {BATCH}
    assert {*counts} == {(1, 2), (2, 1)}, "a window and a half of each"


def test_a_task_is_played_by_its_own_head(tasks):
    """One vector of environments, one head; `test_loops.py` checks the carries."""
    heads = {}
    for turns in tasks.run.streams():
        [agent] = {id(act.agent.actor) for _, act, *_ in turns}
        heads[agent] = turns[0][1].agent.actor
    own = tasks.run.named("update")[0].agent.heads
    assert list(heads.values()) == [own[task].actor for task in tasks.loop.cfg.tasks]


@pytest.fixture(scope="module", params=["multitask_dmc", "multitask_atari"])
def joined(request, tmp_path_factory):
    """Twelve turns of one task, then, resumed, twelve of two; returns the second part."""
    loop, folder = LOOPS[request.param], tmp_path_factory.mktemp("runs") / "run"
    alone = loop.cfg.tasks[:1]
    steps = ENVS * 12
    recorded(loop.recipe, dataclasses.replace(loop.cfg, tasks=alone, steps=steps), folder)
    longer = dataclasses.replace(loop.cfg, resume=True, steps=steps + ENVS * 12)
    return longer, recorded(loop.recipe, longer, folder)


def test_nothing_is_caught_up_when_a_task_joins(joined):
    """Its replay is empty: no update until turn 9, then only those due in each turn."""
    # Two tasks are received at each turn. The 24 actions of one task, at 2 a turn, were counted
    # from action 2 on: 1 + floor((24 - 2) / 3) = 8. After turn k of both, 24 + 4 k actions:
    # 1 + floor((22 + 4 k) / 3) = 19 at k = 8, then 20, 21, 23, 24 (k = 9 ... 12).
    assert joined[1].updates()[::2][:12] == [0] * 8 + [1, 1, 2, 1]


def test_a_task_that_joins_knows_its_reward_on_every_row(joined):
    """Including earlier rows; without features, only on the rows it played."""
    cfg, run = joined
    for update in run.named("update"):
        mixture = update.args[2]
        assert len(mixture.known) == 2
        for place, known in enumerate(mixture.known):
            expected = (mixture.task == place)[:, None] | getattr(cfg, "relabel", False)
            assert torch.equal(known, expected.expand_as(known))


def test_learning_progress_observes_the_scores_of_each_task(tmp_path, monkeypatch):
    observed = []
    observe = wb.tasks.TaskSampler.observe
    monkeypatch.setattr(
        wb.tasks.TaskSampler,
        "observe",
        lambda own, task, scores: (
            observed.extend((task, x) for x in scores),
            observe(own, task, scores),
        ),
    )
    loop = LOOPS["multitask_dmc"]
    run = recorded(
        loop.recipe, dataclasses.replace(loop.cfg, progress=True, steps=16), tmp_path / "run"
    )
    logged = [(event.task, event.score) for event in run.named("episode")]
    assert observed == logged
    assert {task for task, _ in observed} == set(loop.cfg.tasks)


# ------------------------------------------------------------------ candidates


@pytest.fixture(scope="module")
def glam(tmp_path_factory):
    return Played(LOOPS["glam"], tmp_path_factory.mktemp("runs") / "run")


def turns_of(run):
    """For each turn: the draw, the act, the renewed heads, the updates and the new rows."""
    rows, turns = run.named("begin")[0].rows, []
    for event in run.named("draw", "renew", "act", "receive", "log", "update"):
        if event.name == "draw":
            turns.append(SimpleNamespace(rows=rows, draw=event, renew=[], updates=[]))
        elif event.name == "renew":
            turns[-1].renew.append(event)
        elif event.name == "update":
            turns[-1].updates.append(event)
        elif event.name == "act":
            turns[-1].act = event
        elif event.name == "receive":
            rows = event.rows
            turns[-1].finished, turns[-1].after = event.finished, rows
    return turns


def test_a_candidate_is_drawn_for_each_episode_that_begins_and_for_no_other(glam):
    before = [None] * ENVS
    begun = 0
    for turn in turns_of(glam.run):
        assert torch.equal(turn.draw.is_first, turn.rows.is_first)
        begun += int(turn.rows.is_first.sum())
        for env, first in enumerate(turn.rows.is_first.tolist()):
            assert first or turn.draw.playing[env] == before[env]
        before = turn.draw.playing
        assert turn.act.played == turn.draw.playing, "each by the head of its candidate"
    assert begun >= 8
    assert len({task for turn in turns_of(glam.run) for task in turn.draw.playing}) == 3


def test_a_head_with_a_new_candidate_is_renewed_before_it_acts(glam):
    changed = 0
    for turn in turns_of(glam.run):
        agent = turn.act.agent
        heads = [agent.heads[str(head)] for head in turn.draw.changed]
        assert [event.head for event in turn.renew] == heads
        for head, event in zip(turn.draw.changed, turn.renew, strict=True):
            begin = f"heads.parts.{head}."
            own = {k.removeprefix(begin): x for k, x in turn.act.weights.items() if begin in k}
            same(dict(event.fresh.state_dict()), own, "a new head")
            assert not any(x.any() for moments in event.moments for x in moments.values())
        changed += len(heads)
    assert changed >= 2
    fresh = [e.fresh.actor.state_dict() for turn in turns_of(glam.run) for e in turn.renew]
    first = [str(next(x for x in state.values() if x.any()).tolist()) for state in fresh]
    assert len(set(first)) == len(first), "each a new draw"


def test_an_outcome_is_credited_to_the_candidate_whose_head_acted(glam):
    """From the rewards of the rows, and the heads that chose the actions."""
    outcomes = [[], [], []]
    scores, expected = [0.0] * ENVS, []
    for turn in turns_of(glam.run):
        for env in range(ENVS):
            first = bool(turn.after.is_first[env])
            scores[env] = 0.0 if first else scores[env] + float(turn.after.reward[env])
            if turn.after.is_last[env]:
                outcomes[turn.act.played[env]].append(float(scores[env] > 0))
                phrase = glam.run.search.proposal.phrases[turn.act.played[env]]
                expected.append((scores[env], phrase, float(scores[env] > 0)))
    assert glam.run.search.belief.outcomes == outcomes
    assert sum(map(len, outcomes)) >= 8
    assert {0.0, 1.0} == {one for own in outcomes for one in own}
    logged = glam.run.named("episode")
    assert [(one.score, one.task, one.success) for one in logged] == expected


def shares(outcomes, keep):
    """Beta(1, 1) if right against Beta(20 * 0.35, 20 * 0.65) if wrong; old outcomes decay."""
    evidence, prior, odds = Successes(wrong=(7.0, 13.0)), 1 / 3, []
    for own in outcomes:
        weights = [keep ** (len(own) - 1 - i) for i in range(len(own))]
        odds.append(prior * torch.tensor(evidence.log_odds(own, weights)).exp().item())
    return [one / sum(odds) for one in odds]


def test_the_belief_that_is_logged_is_that_of_the_outcomes_by_hand(glam):
    search = glam.run.search
    found = shares(search.belief.outcomes, glam.loop.cfg.keep)
    assert list(search.metrics.values()) == pytest.approx(found)
    assert list(search.metrics) == [f"belief/{phrase}" for phrase in search.proposal.phrases]


def test_the_best_head_is_that_of_the_most_probable_candidate_at_every_turn(glam):
    """Of the candidates with a head, whichever is played."""
    turns, outcomes, others = turns_of(glam.run), [[], [], []], 0
    bests = [int(turn.act.weights["best"]) for turn in turns[1:]] + [int(turns[-1].act.agent.best)]
    for turn, best in zip(turns, bests, strict=True):
        for env, score, _ in turn.finished:
            outcomes[turn.draw.playing[env]].append(float(score > 0))
        found = shares(outcomes, glam.loop.cfg.keep)
        owned = [(found[task], -head) for head, task in enumerate(turn.draw.owners)]
        assert best == -max(owned)[1]
        others += best not in turn.act.heads
    assert others >= 2


def test_each_head_is_taught_the_goal_of_its_own_candidate(glam):
    """It pays only in the row in which the goal is achieved."""
    paid = 0
    for turn in turns_of(glam.run):
        for update in turn.updates:
            [mixture] = [x for x in update.args if isinstance(x, wb.replay.Mixture)]
            for place, task in enumerate(turn.draw.owners):
                done = mixture.feature[FEATURES[task]]
                rises = (done[:, 1:] > done[:, :-1]) & ~mixture.batch.is_first[:, 1:]
                known = mixture.known[place, :, 1:]
                assert torch.equal((mixture.reward[place, :, 1:] > 0) & known, rises & known)
                assert known.sum() > known.numel() / 2
                paid += int((rises & known).sum())
    assert paid > 10
