"""The gymnasium recipe: all spaces, exact resume, crashing environments, evaluation, seeds."""

import dataclasses
import functools
import json
import re
import shutil

import pytest
import tiny_runs
import torch
from tiny_runs import ROOT, comparable, interrupted, same_run

import dreamerv3_gym as recipe
import evaluate
import worldblocks as wb
from ring_core import Forgetful, RingCore, ScanningCore, ring_rssm

pytest.importorskip("gymnasium", reason="needs the extra gym")

TINY = dataclasses.replace(
    recipe.PRESETS["smoke"],
    env="tiny_environments:Diary",
    steps=92,
    image=48,
    prefill=8,
    train_ratio=2.0,
    log_every=16,
    video_every=0,
    save_every=30,
)
# Worker failures are warnings, which pytest would turn into errors.
worker_warnings = pytest.mark.filterwarnings("ignore:environment . at step:RuntimeWarning")


def run(folder, code=0, **changes):
    return tiny_runs.run(recipe, TINY, folder, code, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    tiny_runs.smoke("dreamerv3_gym", folder)
    return folder


def test_smoke_leaves_curve_and_checkpoint(smoke):
    for path in ("config.json", "metrics.jsonl", "episodes.jsonl", "timing.jsonl", "curve.png"):
        assert (smoke / path).stat().st_size > 0
    assert wb.run.read_config(smoke)["recipe"] == "dreamerv3_gym"
    assert wb.run.Checkpoint(smoke).exists()


def test_evaluate_plays_vectors(smoke, capsys):
    evaluate.main(evaluate.Config(run=smoke, episodes=3, envs=2, mode=True, json=True))
    mode, sampled, figures = capsys.readouterr().out.splitlines()
    assert "over 3 episodes of the policy's mode" in mode
    assert "over 3 episodes of sampled actions" in sampled
    assert json.loads(figures)["sampled"]["episodes"] == 3
    assert not (smoke / "evaluation.gif").exists()


def experience(folder):
    """The rows of each environment, oldest first, without row 0."""
    sizes = {"capacity": TINY.capacity, "streams": TINY.envs, "length": TINY.length}
    replay = wb.replay.SequenceReplay(**sizes, seed=0)
    wb.run.Checkpoint(folder).load_stores({"replay": replay})
    batch = replay.sample(16, length=replay.steps // TINY.envs - 1)
    windows = {int(row[0]) % TINY.envs: i for i, row in enumerate(batch.row)}
    assert len(windows) == TINY.envs
    return [batch.map(lambda x, i=i: x[i]) for i in windows.values()]


def check_diary(folder):
    """Check that every row follows from the one before and its action; returns early ends."""
    action = wb.envs.gym(TINY.env).action
    return sum(check_rows(rows, action) for rows in experience(folder))


def check_rows(rows, action):
    obs, did = rows.obs, wb.spaces.split_action(action, rows.prev_action)
    pushed = did["box"].clamp(-1, 1) * torch.tensor([2, 0.5]) + torch.tensor([0, 0.5])
    gained = did["discrete"] + 1.0 + did["unequal/0"] + did["unequal/1"]
    early = 0
    assert torch.equal(
        obs["picture"], (16 * obs["when"]).byte()[:, None, None, None].expand_as(obs["picture"])
    )
    for t in range(1, len(rows.reward)):
        when, before = (int(obs["when"][i]) for i in (t, t - 1))
        assert rows.is_first[t] == rows.is_last[t - 1]
        if rows.is_first[t]:
            assert (when, rows.reward[t], obs["did"][t].any()) == (0, 0, False)
            continue
        assert obs["who"][t] == obs["who"][t - 1]
        if when == before:  # it died: the row before again, and the end of the episode
            assert (rows.reward[t], rows.is_last[t], rows.is_terminal[t]) == (0, True, False)
            assert torch.equal(obs["did"][t], obs["did"][t - 1])
            early += 1
            continue
        assert (when, rows.reward[t], rows.is_last[t]) == (before + 1, gained[t], when == 7)
        assert rows.is_terminal[t] == (when == 7 and obs["who"][t] >= 0.5)
        torch.testing.assert_close(obs["did"][t], pushed[t])
    return early


def test_dicts_of_actions_and_observations(whole):
    comparable(whole, TINY.steps)
    assert check_diary(whole) == 0
    assert {line["length"] for line in wb.run.read_jsonl(whole / "episodes.jsonl")} == {7}


def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path, capsys):
    """Interrupted in mid-episode, with workers; the same run as without."""
    folder = interrupted(recipe, TINY, tmp_path / "run", 21, workers=True)
    assert "saved at step 42; continue with:\n  python" in capsys.readouterr().out
    saved = tiny_runs.state(folder)["envs"]
    assert saved["rows"]["obs"]["when"].tolist() == [5, 5]
    same_run(run(folder, resume=True, workers=True), whole)


@pytest.mark.parametrize("core", [RingCore, ScanningCore, Forgetful])
def test_a_core_with_a_memory_of_its_own_trains_and_resumes(core, tmp_path, monkeypatch):
    """Its ring is packed, written back and saved; or nothing is, where windows start anew."""
    monkeypatch.setattr(wb.rssm, "dreamer_rssm", functools.partial(ring_rssm, core))
    whole = run(tmp_path / "whole", steps=60)
    part = interrupted(recipe, TINY, tmp_path / "part", 15, steps=60)
    same_run(run(part, resume=True, steps=60), whole)


def test_a_finished_run_is_resumed_for_its_report(smoke, tmp_path, capsys):
    """From replay that no row was added to since it was loaded."""
    folder = shutil.copytree(smoke, tmp_path / "run")
    cfg = wb.run.load_config(folder, recipe.Config)
    tiny_runs.run(recipe, cfg, folder, resume=True, report_steps=400)
    assert "reward error" in capsys.readouterr().out


@worker_warnings
def test_a_killed_worker_costs_only_its_episode(tmp_path):
    arguments = json.dumps({"die": str(tmp_path / "died")})
    with pytest.warns(RuntimeWarning, match=r"environment \d at step 5 was killed by SIGKILL; it"):
        folder = run(tmp_path / "run", workers=True, env_args=arguments)
    assert (tmp_path / "died").exists()
    assert tiny_runs.state(folder)["position"]["step"] == [TINY.steps]
    assert check_diary(folder) == 1
    [failure] = wb.run.read_jsonl(folder / "failures.jsonl")
    assert failure["what"] == "was killed by SIGKILL"
    assert {line["length"] for line in wb.run.read_jsonl(folder / "episodes.jsonl")} == {7}


@worker_warnings
def test_too_many_failures_stop_the_run_and_it_can_be_resumed(tmp_path, capsys):
    (tmp_path / "fail").touch()
    arguments = {"workers": True, "env_args": json.dumps({"fail": str(tmp_path / "fail")})}
    folder = run(tmp_path / "run", code=1, **arguments)
    output = capsys.readouterr().out
    assert "4 failures in the last 1000 steps, more than max_failures=3 allows; fix the" in output
    assert 'in break_down\n    raise RuntimeError("the wheel came off")' in output
    assert re.search(r"\nsaved at step 22; continue with:\n  python .*--resume\n", output)
    (tmp_path / "fail").unlink()
    run(folder, resume=True, **arguments)
    assert tiny_runs.state(folder)["position"]["step"] == [TINY.steps]
    assert check_diary(folder) == 4


@pytest.mark.parametrize("action", ["box", "discrete", "equal", "unequal"])
def test_a_single_action_of_any_kind(tmp_path, action):
    name, arguments = "tiny_environments:Single", json.dumps({"action": action})
    folder = run(tmp_path / "run", env=name, env_args=arguments, steps=40, save_every=0)
    assert tiny_runs.state(folder)["position"]["updates"][0] >= 2
    assert {line["score"] for line in wb.run.read_jsonl(folder / "episodes.jsonl")} == {9.0}


def test_the_environment_of_the_page_runs(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(import gymnasium\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "corridor.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    folder = run(tmp_path / "run", env="corridor:Corridor", steps=80, save_every=0)
    assert all(line["score"] <= 1 for line in wb.run.read_jsonl(folder / "episodes.jsonl"))
    assert experience(folder)[0].obs["vector"].max() <= 1


def test_pixels_of_an_environment_that_observes_vectors(tmp_path):
    pytest.importorskip("pygame", reason="CartPole is drawn with pygame")
    folder = run(tmp_path / "run", env="CartPole-v1", pixels=True, steps=32, save_every=0)
    [rows, _] = experience(folder)
    assert list(rows.obs) == ["image"]
    assert rows.obs["image"].shape[1:] == (48, 48, 3)
    assert rows.obs["image"].float().std() > 0


@pytest.mark.parametrize("text", ["{gravity: 5}", "[1]", "5"])
def test_arguments_that_are_not_a_json_object(text):
    message = """--env-args takes keyword arguments as a JSON object such as '{"gravity": 5.0}'"""
    with pytest.raises(ValueError, match=re.escape(f"{message}, got {text!r}")):
        recipe.Config(env_args=text)


def test_arguments_that_are_options_of_the_recipe():
    message = "--env-args cannot set repeat, size: use --env, --pixels, --image and --repeat"
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe.Config(env_args='{"size": 5, "repeat": 2}')


def test_load_and_act(whole):
    agent, cfg = recipe.load(whole, device="cpu")
    envs = recipe.environments(cfg, 3, seed=5)
    rows, carry = envs.reset(), agent.initial(3)
    for _ in range(5):
        action, carry = recipe.act(agent, rows.obs, carry, rows.is_first)
        rows = envs.step(action)
    assert rows.obs["when"].tolist() == [5, 5, 5]
    with wb.distributions.modes():  # takes the mode of the latent too
        again = [
            recipe.act(agent, rows.obs, c, torch.ones(3, dtype=torch.bool), mode=True)[0]
            for c in (carry, agent.initial(3))
        ]
    assert torch.equal(*again)  # the first row of an episode forgets the one before
    assert not torch.equal(action, recipe.act(agent, rows.obs, carry, rows.is_first)[0])


def test_two_seeds_in_one_command(tmp_path, monkeypatch, capsys):
    words = f"smoke --seeds 0 1 --steps 24 --logdir {tmp_path} --save-every 0"
    monkeypatch.setattr("sys.argv", ["recipe.py", *words.split()])
    monkeypatch.setattr(wb.run, "plot_curve", lambda _: None)
    known = {"name": "env", "compare": wb.evaluate.compare}
    assert wb.run.launch(recipe.main, recipe.PRESETS, recipe.__doc__, **known) == 0
    table = capsys.readouterr().out
    for seed in (0, 1):
        assert wb.run.read_config(tmp_path / f"seed-{seed}")["seed"] == seed
        assert f"seed-{seed}" in table
    assert (tmp_path / "compare.png").stat().st_size > 0
