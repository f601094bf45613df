"""The agent and the replays that `adapt` makes of a multi-task run, and its update."""

import dataclasses
import itertools
import json
from types import SimpleNamespace

import pytest
import scripted_world as world
import torch
from expected_updates import close, moves
from saved_run import SAVED, SHARED, learnable, optimized, same_numbers, saved_run
from scripted_world import ACTION

import adapt
import multitask_dmc as recipe
import worldblocks as wb


@pytest.fixture
def run(tmp_path):
    return saved_run(tmp_path)


def adapted(run, **options):
    cfg = adapt.Config(run=run.folder, task="swim", **options)
    agent, optimizer, suite = adapt.prepare(cfg, run.recipe, SAVED)
    assert list(suite.actions) == agent.heads.names == ["swim"]
    return agent, optimizer


@pytest.mark.parametrize("freeze", [False, True])
def test_a_new_task_gets_the_world_of_the_run_and_its_own_head(run, freeze):
    agent, optimizer = adapted(run, freeze=freeze)
    for name in SHARED:
        ours, theirs = (getattr(x, name).state_dict() for x in (agent, run.old))
        assert same_numbers(ours, theirs), name
    assert not same_numbers(agent.heads["swim"].state_dict(), run.old.heads["walk"].state_dict())
    assert optimized(optimizer) == learnable(agent.heads if freeze else agent)
    [group] = optimizer.param_groups
    assert (group["lr"], group["agc"], group["warmup"]) == (SAVED.lr, SAVED.agc, SAVED.warmup)


def test_a_fresh_world_is_new(run):
    agent, optimizer = adapted(run, world="fresh")
    assert optimized(optimizer) == learnable(agent)
    for name, x in agent.state_dict().items():
        theirs = run.old.state_dict().get(name)
        assert theirs is None or not torch.equal(x, theirs), name


@pytest.mark.parametrize("freeze", [False, True])
def test_a_shuffled_world_has_only_its_dynamics_shuffled(run, freeze):
    agent, optimizer = adapted(run, world="shuffled", freeze=freeze)
    assert optimized(optimizer) == learnable(agent.heads if freeze else agent)
    for name in ("encoder", "decoder", "cont"):
        assert same_numbers(getattr(agent, name).state_dict(), getattr(run.old, name).state_dict())
    for name, ours in agent.rssm.named_parameters():
        theirs = run.old.rssm.get_parameter(name)
        assert torch.equal(ours.flatten().sort()[0], theirs.flatten().sort()[0]), name
        assert ours.numel() < 3 or not torch.equal(ours, theirs), name


@pytest.mark.parametrize("world", ["kept", "fresh", "shuffled"])
def test_a_head_can_be_copied_whole(run, world):
    """Into any world, a fresh one too."""
    agent, _ = adapted(run, head="run", world=world)
    assert same_numbers(agent.heads["swim"].state_dict(), run.old.heads["run"].state_dict())


def test_an_update_of_a_new_task_gets_its_own_rewards_and_rows():
    """The third task of a mixture of three is the new one."""
    mixture, given = world.mixture(), []
    agent = SimpleNamespace(rssm=world.World())
    packed = tuple(agent.rssm.pack(mixture.batch.carry))  # as loaded from files
    batch = mixture.batch._replace(carry=packed, row=torch.zeros(5, 7, dtype=torch.int64))
    update = lambda *parts: given.append(parts) or "done"  # noqa: E731
    stored = mixture._replace(batch=batch)
    assert adapt.update(SimpleNamespace(update=update), agent, "by", SAVED, stored, 2) == "done"
    [(*rest, ours, saved)] = given
    assert rest == [agent, "by"]
    assert saved is SAVED
    assert ours.task.tolist() == [-1, 0, -1, -1, 0], "0 where the new task played"
    assert torch.equal(ours.reward, mixture.reward[[2]])
    assert torch.equal(ours.known, mixture.known[[2]])
    assert torch.equal(ours.batch.carry.x, mixture.batch.carry.x)
    assert ours.batch.row is None
    assert torch.equal(ours.batch.obs["vector"], mixture.batch.obs["vector"])


RUNNING = dataclasses.replace(SAVED, capacity=40, envs=2, length=3, relabel=True)


def with_replay(run, tasks=("walker_stand", "walker_walk")):
    """Rows of two tasks of one body, with the features of its rewards."""
    replay = wb.replay.MixtureReplay(tasks, capacity=40, streams=2, length=3)
    carry, flags = world.World().initial(2), torch.zeros(3, 2, dtype=torch.bool)
    for task, t in itertools.product(tasks, range(8)):
        feature = torch.full((2, 1), 1.3)  # an upright torso, and a speed of 1.3
        names = ("torso_height", "torso_upright", "horizontal_velocity", "lived")
        rows = {f"feat/{name}": feature.clamp(max=9 if "v" in name else 1) for name in names}
        obs = {"vector": torch.randn(2, 6), **rows}
        first, reward = torch.full((2,), t == 0), torch.full((2,), 0.25)
        one = dict(zip(("is_first", "is_last", "is_terminal"), (first, *flags[:2]), strict=True))
        led = torch.zeros(2, ACTION)
        replay.add(task, obs=obs, prev_action=led, reward=reward, carry=carry, **one)
    wb.run.Checkpoint(run.folder).save({"position": {"tasks": tasks}}, stores={"replay": replay})
    (run.folder / "config.json").write_text(json.dumps({"tasks": tasks}))
    return tasks


def replays(run, task="walker_run", suite=None, **options):
    cfg = adapt.Config(run=run.folder, task=task, **options)
    return adapt.replays(cfg, run.recipe, RUNNING, suite or world.task_suite([task]))


def test_the_replay_of_the_run_is_relabelled_for_a_new_task(run):
    tasks = with_replay(run)
    old, new, found = replays(run)
    assert found == tasks
    assert old.tasks == [*tasks, "walker_run"]
    assert new.tasks == ["walker_run"]
    assert len(new) == 0
    mixture = old.sample({"walker_stand": 2, "walker_walk": 3})
    assert mixture.known[2].all(), "the new task's everywhere"
    assert mixture.known[0].sum() == 2 * 3, "another's where it was played"
    run_reward = wb.tasks.control_reward("walker_run")
    expected = run_reward.reward({name: x.float() for name, x in mixture.feature.items()})
    close(mixture.reward[2], expected.masked_fill(mixture.batch.is_first, 0.0), "the new reward")
    assert (mixture.reward[0, :2] == 0.25).all()
    again, *_ = replays(run, task="walker_walk")
    assert again.tasks == list(tasks), "a task of the run is not added twice"


@pytest.mark.parametrize("why", ["fresh world", "unknown reward", "no features", "another body"])
def test_a_useless_replay_is_not_used(run, why):
    with_replay(run)
    suite = world.task_suite(["walker_run"])
    suite.width += why == "another body"
    task = "hopper_hop" if why == "unknown reward" else "walker_run"
    cfg = adapt.Config(run=run.folder, task=task, world="fresh" if "fresh" in why else "kept")
    saved = dataclasses.replace(RUNNING, relabel=why != "no features")
    old, new, _ = adapt.replays(cfg, run.recipe, saved, suite)
    assert old is None
    assert new.tasks == [task]


def test_a_frozen_world_stays_while_the_head_learns(run):
    agent, optimizer = adapted(run, freeze=True)
    moves(agent, optimizer, lambda: adapted_update(agent, optimizer), agent.heads)


def adapted_update(agent, optimizer):
    batch = world.windows()
    action = torch.zeros(*batch.reward.shape, agent.suite.width)
    carry = agent.rssm.pack(agent.rssm.initial(len(batch.reward)))
    mixture = world.mixture(["swim"])
    mixture = mixture._replace(batch=batch._replace(carry=carry, prev_action=action))
    adapt.update(recipe, agent, optimizer, SAVED, mixture, 0)
