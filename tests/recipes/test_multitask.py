"""Several tasks: a world model without task ids, tasks that join and leave, adaptation."""

import copy
import dataclasses
import functools
import json
import shutil

import pytest
import tiny_runs
import torch
from saved_run import SHARED
from tiny_runs import interrupted, same_run, state
from torch.utils import _pytree as pytree

import adapt
import diagnose
import evaluate
import multitask_dmc as recipe
import worldblocks as wb

pytest.importorskip("dm_control", reason="needs the extra dmc")

SMOKE = recipe.PRESETS["smoke"]
TINY = dataclasses.replace(SMOKE, steps=52, envs=1, prefill=8, train_ratio=2.0, save_every=24)
TINY = dataclasses.replace(TINY, log_every=16, judge=0)
EASY, HARD = TINY.tasks


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """Each takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wb.tasks, "plot_tasks", lambda run: run)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return tiny_runs.run(recipe, TINY, tmp_path_factory.mktemp("runs") / "whole")


def built(**options):
    """A copy, always the same, of an agent, its optimiser, a mixture and the configuration."""
    found = copy.deepcopy(made(**options))
    torch.manual_seed(5)
    return found


@functools.cache
def made(**options):
    torch.manual_seed(3)
    cfg = dataclasses.replace(TINY, warmup=0, lr=1e-2, **options)
    suite = recipe.task_suite(cfg)
    agent, optimizer = recipe.build(cfg, suite)
    replay = wb.replay.MixtureReplay(capacity=40, streams=2, length=cfg.length)
    relabel = {task: wb.tasks.control_reward(task) for task in cfg.tasks if cfg.relabel}
    replay.relabel = relabel
    task_envs = wb.tasks.TaskEnvironments()
    envs = lambda task: suite.envs(task, 2, seed=0)  # noqa: E731
    wb.tasks.set_tasks(cfg.tasks, agent, optimizer, replay, task_envs, envs)
    for task, own in task_envs:
        policy = wb.evaluate.random_policy(own, 0)
        for _ in range(12):
            rows, action = own.rows, policy(None)
            carry = agent.rssm.pack(agent.rssm.initial(2))
            led = torch.zeros(2, suite.width)
            led[:, : action.shape[1]] = action
            stored = rows._replace(prev_action=led)
            replay.add(task, **stored._asdict(), carry=carry)
            own.step(action)
    mixture = replay.sample(dict.fromkeys(cfg.tasks, 2))
    batch = mixture.batch._replace(carry=agent.rssm.unpack(mixture.batch.carry), row=None)
    mixture = mixture._replace(batch=batch, reward=torch.rand_like(mixture.reward))
    return agent, optimizer, mixture, cfg


def swapped(mixture):
    """The same rows, with the rewards of the two tasks swapped."""
    reward, known = mixture.reward.flip(0), mixture.known.flip(0)
    batch = mixture.batch._replace(reward=reward.sum(0))
    return mixture._replace(batch=batch, reward=reward, known=known)


def trained(change, **options):
    """Latents and losses of the world model in three updates, and its weights after them."""
    agent, optimizer, mixture, cfg = built(**options)
    found = []
    for _ in range(3):
        post, metrics = recipe.update(agent, optimizer, change(mixture), cfg)
        found += [
            *pytree.tree_leaves(post),
            *(metrics[f"loss/{name}"] for name in ("dyn", "rep", "obs", "cont")),
        ]
    weights = {name: x for name, x in agent.state_dict().items() if name.startswith(SHARED)}
    return [x.clone() for x in found], weights


def test_swapped_rewards_leave_the_world_model_the_same_to_the_bit():
    ours, theirs = trained(lambda mixture: mixture), trained(swapped)
    assert all(torch.equal(a, b) for a, b in zip(ours[0], theirs[0], strict=True))
    assert all(torch.equal(x, theirs[1][name]) for name, x in ours[1].items())


def test_swapped_rewards_change_the_world_model_with_reward_gradients(record_property):
    ours, theirs = (trained(change, reward_grad="all") for change in (lambda x: x, swapped))
    gaps = [(x.float() - theirs[1][name].float()).abs().max() for name, x in ours[1].items()]
    record_property("largest difference of a weight", float(max(gaps)))
    assert max(gaps) > 1e-6


def test_swapped_rewards_do_change_the_heads():
    """So the tests above can fail: rewards are used somewhere."""
    ends = []
    for change in (lambda mixture: mixture, swapped):
        agent, optimizer, mixture, cfg = built()
        recipe.update(agent, optimizer, change(mixture), cfg)
        ends.append(agent.heads[EASY].reward.out.weight.clone())
    assert not torch.equal(*ends)


def test_no_gradient_of_a_head_reaches_the_world():
    agent, _, mixture, cfg = built()
    post, *_ = recipe.world_model_loss(agent, mixture.batch, cfg)
    rows = mixture.batch._replace(reward=mixture.reward[0])
    losses, _ = recipe.actor_critic_loss(agent.task(EASY), post.detach(), rows, cfg)
    sum(loss.mean() for loss in losses.values()).backward()
    for name, parameter in agent.named_parameters():
        own = name.startswith(f"heads.parts.{EASY}.") and "slow" not in name
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached <= own, name


def test_the_world_sees_the_task_only_if_conditioned():
    agent, *_ = built(conditioned=True)
    assert agent.suite.width == 4
    feature = torch.zeros(1, agent.rssm.feature_dim)
    tails = [agent.task(task).actor(feature).mode[:, 2:].tolist() for task in (EASY, HARD)]
    assert tails == [[[1.0, 0.0]], [[0.0, 1.0]]]
    rows = agent.suite.envs(HARD, 1, seed=0).reset()
    sent, (_, led) = recipe.act(agent.task(HARD), rows.obs, agent.initial(1), rows.is_first)
    assert torch.equal(led, torch.cat([sent, torch.tensor([[0.0, 1.0]])], -1)), "the task follows"
    assert built()[0].suite.width == 2


def test_privileged_features_never_reach_the_encoder(whole):
    """They are in replay, not in the batch of the world model, and the encoder rejects them."""
    agent, _, mixture, cfg = built()
    assert set(mixture.feature) == {"finger_to_target_dist", "lived"}
    assert (
        set(mixture.batch.obs) == set(agent.encoder.keys) == {"position", "to_target", "velocity"}
    )
    leaked = {**mixture.batch.obs, "feat/lived": mixture.feature["lived"]}
    with pytest.raises(KeyError, match=r"unexpected \['feat/lived'\]"):
        agent.encoder(leaked)
    one, cfg = recipe.load(whole)
    rows = recipe.task_suite(cfg).envs(EASY, 1, seed=0).reset()
    assert "feat/lived" in rows.obs
    rows.obs["feat/lived"].fill_(torch.nan)
    action, _ = recipe.act(one, rows.obs, one.initial(1), rows.is_first)
    assert torch.isfinite(action).all()


def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path):
    folder = interrupted(recipe, TINY, tmp_path / "run", 41)
    saved = state(folder)
    assert saved["position"]["step"] == [
        21
    ]  # in mid-episode; each of two tasks takes an action a step
    same_run(tiny_runs.run(recipe, TINY, folder, resume=True), whole)


def test_episodes_and_metrics_name_their_task(whole):
    lines = wb.run.read_jsonl(whole / "episodes.jsonl")
    assert [line["task"] for line in lines] == [EASY, HARD] * 2
    last = wb.run.read_jsonl(whole / "metrics.jsonl")[-1]
    assert {f"loss/{task}/{name}" for task in TINY.tasks for name in ("reward", "actor")} <= set(
        last
    )


@pytest.mark.parametrize("tasks", [(HARD,), (EASY, HARD, "cartpole_swingup")])
def test_tasks_that_stay_are_the_same_to_the_bit(whole, tmp_path, tasks, monkeypatch):
    """A run resumed with other tasks, saved before its next step."""
    folder = shutil.copytree(whole, tmp_path / "run")
    if "cartpole_swingup" in tasks:  # another body does not fit this world model
        with pytest.raises(ValueError, match="and there is room for"):
            tiny_runs.run(recipe, TINY, folder, tasks=tasks, resume=True)
        return
    tiny_runs.run(recipe, TINY, folder, tasks=tasks, resume=True)
    ours, theirs = state(folder), state(whole)
    assert ours["position"]["tasks"] == list(tasks)
    assert recipe.load(folder)[0].encoder is not None
    stayed = [k for k in ours["agent"] if k.startswith((*SHARED, f"heads.parts.{tasks[0]}."))]
    assert set(ours["agent"]) == set(stayed)
    assert all(torch.equal(ours["agent"][name], theirs["agent"][name]) for name in stayed)


def test_a_task_that_joins_trains_with_the_others(whole, tmp_path):
    alone = tiny_runs.run(recipe, TINY, tmp_path / "alone", tasks=(EASY,), steps=32)
    before = copy.deepcopy(state(alone)["agent"])
    shutil.copytree(alone, tmp_path / "joined")
    joined = tiny_runs.run(
        recipe, TINY, tmp_path / "joined", tasks=(EASY, HARD), steps=32, resume=True
    )
    after = state(joined)["agent"]
    assert all(torch.equal(after[name], x) for name, x in before.items())
    assert any(name.startswith(f"heads.parts.{HARD}.") for name in after)
    longer = tiny_runs.run(
        recipe, TINY, tmp_path / "joined", tasks=(EASY, HARD), steps=60, resume=True
    )
    assert {line["task"] for line in wb.run.read_jsonl(longer / "episodes.jsonl")} == {EASY, HARD}


def test_evaluate_plays_a_given_task(whole, capsys):
    for task in ("", HARD):
        evaluate.main(evaluate.Config(run=whole, task=task, episodes=1, envs=1, json=True))
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 1


def test_diagnose_takes_a_given_task(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wb.diagnose.inputs, "SAMPLES", 2)
    for task in ("", HARD):
        page = tmp_path / f"{task}.html"
        diagnose.main(diagnose.Config(run=whole, task=task, steps=136, output=page))
        assert f"task <b>{task or EASY}</b>" in page.read_text()
        assert "policy entropy" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("tool", [evaluate, diagnose])
def test_a_tool_names_the_tasks_of_a_run(whole, tool):
    with pytest.raises(ValueError, match=f"unknown task of .* 'zzz'; --task takes one of {EASY}, "):
        tool.main(tool.Config(run=whole, task="zzz"))


def test_adapt_refuses_before_it_works(whole, tmp_path):
    given = {"run": whole, "task": HARD}
    with pytest.raises(ValueError, match=f"'zzz'; --head takes one of {EASY}, "):
        adapt.main(adapt.Config(**given, head="zzz"))
    with pytest.raises(ValueError, match="--episodes takes 1 or more, got 0"):
        adapt.Config(**given, episodes=0)
    (tmp_path / "result.json").touch()
    with pytest.raises(
        FileExistsError, match=r"holds a result.json already; give another --logdir"
    ):
        adapt.main(adapt.Config(**given, logdir=str(tmp_path)))
    with pytest.raises(NotADirectoryError, match=r"is not a folder; give the --logdir of another"):
        adapt.main(adapt.Config(**given, logdir=str(tmp_path / "result.json")))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"freeze": True, "head": EASY},
        pytest.param({"world": "shuffled"}, marks=pytest.mark.slow),
        pytest.param({"world": "fresh"}, marks=pytest.mark.slow),
        {"task": "cartpole_swingup"},
    ],
    ids=str,
)
def test_a_new_task_is_learned(whole, tmp_path, options):
    """Also of another body, as far as tensors fit."""
    given = {"task": HARD, "marks": (0, 480), "before": 1, "episodes": 1, **options}
    assert adapt.main(adapt.Config(run=whole, logdir=str(tmp_path), **given)) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [e["step"] for e in result["evaluations"]] == [0, 480]


def test_the_replay_of_another_body_is_left_alone(tmp_path):
    body = tiny_runs.run(recipe, TINY, tmp_path / "run", tasks=("cartpole_swingup",))
    cfg = adapt.Config(run=body, task=EASY, marks=(0,), before=1, episodes=1)
    assert adapt.main(cfg) == 0


def test_environments_that_keep_failing_stop_adapt(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(wb.envs.EnvVector, "stopped", "the emulator is gone")
    cfg = adapt.Config(run=whole, task=HARD, marks=(480,), before=0, logdir=str(tmp_path))
    with pytest.raises(RuntimeError, match="the emulator is gone"):
        adapt.main(cfg)
    assert not (tmp_path / "result.json").exists()


def test_messages(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    config = json.loads((whole / "config.json").read_text(encoding="utf-8"))
    config["conditioned"] = True
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is conditioned on its tasks and has no place"):
        adapt.main(adapt.Config(run=tmp_path / "run", task=HARD))
    with pytest.raises(
        ValueError, match=r"has learnt .*, and --tasks names cartpole_balance alone"
    ):
        tiny_runs.run(
            recipe,
            TINY,
            shutil.copytree(whole, tmp_path / "r"),
            resume=True,
            tasks=("cartpole_balance",),
        )
    for tasks in ((), (EASY, EASY)):
        with pytest.raises(ValueError, match="--tasks takes one or more different tasks, got"):
            dataclasses.replace(SMOKE, tasks=tasks)
    with pytest.raises(
        ValueError, match=r"--marks takes one or more ascending steps, got \(5, 1\)"
    ):
        adapt.Config(run=whole, task=HARD, marks=(5, 1))
    with pytest.raises(ValueError, match="a fresh world cannot be frozen; use --world kept"):
        adapt.Config(run=whole, task=HARD, world="fresh", freeze=True)
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "vae"}))
    with pytest.raises(ValueError, match=r"vae\.py has no task_suite.*"):
        adapt.main(adapt.Config(run=tmp_path, task=HARD))


def test_smoke(tmp_path):
    output = tiny_runs.smoke("multitask_dmc", tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == [EASY, HARD]
    assert (tmp_path / "tasks.png").stat().st_size > 0
    assert output.count("the 95th percentile of 2 random ones") == 2
