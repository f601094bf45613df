"""The official code beside ours: games, records, comparison, and messages when it cannot run."""

import json
import math

import numpy as np
import pytest
import torch
from benchmarks.closed_loop import ours
from benchmarks.closed_loop.__main__ import PUBLISHED, main
from benchmarks.closed_loop.compare import compare, permutation
from benchmarks.closed_loop.games import CartPole, Catch, Pendulum, episode_seed
from benchmarks.closed_loop.record import Record, read
from benchmarks.closed_loop.runner import Plan
from benchmarks.closed_loop.show import draw, tables

import dreamerv3_gym
import worldblocks as wb


def test_a_step_of_cart_pole_by_hand():
    game = CartPole()
    game.reset(0)
    game.state = np.zeros(4)
    obs, reward, terminated, truncated = game.step(1)
    # 10 N on 1.1 kg; the pole turns against it by -9.0909 / 0.62121
    assert obs == pytest.approx([0, 0.02 * 9.756098, 0, 0.02 * -14.634146], rel=1e-6)
    assert (reward, terminated, truncated) == (1.0, False, False)
    game.state = np.array([2.39, 1.0, 0.0, 0.0])
    assert game.step(0)[1:] == (1.0, True, False)
    game.state, game.steps = np.zeros(4), 499
    assert game.step(0)[2:] == (False, True)


def test_a_step_of_the_pendulum_by_hand():
    game = Pendulum()
    game.reset(0)
    game.angle, game.spin = 5 * math.pi / 2, 0.0  # once around and horizontal
    obs, reward, terminated, truncated = game.step(np.array([3.0], np.float32))  # clipped to 1
    assert game.spin == pytest.approx(0.05 * (15 + 3 * 2))
    assert reward == pytest.approx(-(math.pi**2 / 4 + 0.001 * 4))
    assert obs == pytest.approx([-math.sin(0.0525), math.cos(0.0525), 1.05], rel=1e-5)
    assert (terminated, truncated) == (False, False)
    game.steps = 199
    assert game.step(0.0)[2:] == (False, True)


@pytest.mark.parametrize(("moves", "reward"), [("LLSSSSS", 1.0), ("LSSSSSS", -1.0)])
def test_a_ball_is_caught_below_it(moves, reward):
    game = Catch()
    game.reset(0)
    game.ball = 2
    rows = [game.step("LSR".index(move)) for move in moves]
    assert [row[1] for row in rows] == [0.0] * 6 + [reward]
    assert [row[2] for row in rows] == [False] * 6 + [True]
    first = rows[0][0]
    assert first.shape == (48, 48, 1)
    assert first[6:12, 12:18].min() == first[42:, 18:24].min() == 255
    assert first.sum() == 255 * 2 * 36


@pytest.mark.parametrize(("name", "game"), [("CartPole-v1", CartPole), ("Pendulum-v1", Pendulum)])
def test_games_equal_those_of_gymnasium(name, game):
    gymnasium = pytest.importorskip("gymnasium")
    random, own = np.random.default_rng(3), game()
    theirs = gymnasium.make(name).unwrapped
    for seed in range(4):
        own.reset(seed)
        theirs.reset(seed=seed)
        theirs.state = own.state.copy() if game is CartPole else np.array([own.angle, own.spin])
        for _ in range(40):
            push = int(random.integers(2)) if game is CartPole else random.uniform(-1.2, 1.2, 1)
            given = push if game is CartPole else 2 * np.clip(push, -1, 1)
            obs, reward, terminated, _ = own.step(push)
            expected = theirs.step(given)
            assert obs == pytest.approx(expected[0], abs=1e-5)
            assert (reward, terminated) == (pytest.approx(float(expected[1])), expected[2])
            if terminated:
                break


def test_both_sides_get_the_same_episodes():
    envs = wb.envs.EnvVector([ours.environment("catch")], seed=5, workers=False)
    envs.reset()
    for episode in range(3):
        seen = Catch().reset(episode_seed(5, episode))
        assert np.array_equal(envs.rows.obs["image"][0].numpy(), seen)
        assert envs.rows.is_first[0]
        for _ in range(8):  # seven moves and the reset
            envs.step(torch.tensor([[0.0, 1.0, 0.0]]))
    with pytest.raises(wb.envs.NotRestored, match=r"a game of benchmarks\.closed_loop saves no st"):
        ours.environment("catch")().set_state(b"")


@pytest.mark.parametrize(("game", "ended"), [("cartpole", 1), ("catch", 19), ("pendulum", 0)])
def test_ours_leaves_a_record_of_a_few_updates(tmp_path, game, ended):
    ours.run(game, seed=1, steps=152, out=str(tmp_path / "ours-1"))
    lines = wb.run.read_jsonl(tmp_path / "ours-1" / "updates.jsonl")
    # 128 windows of 16 rows, and one row before them for the carry
    assert [(line["update"], line["step"]) for line in lines] == [(1, 144), (2, 148), (3, 152)]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert lines[1]["update_rms"] > lines[0]["update_rms"] == 0.0  # the warm-up begins at 0
    episodes = wb.run.read_jsonl(tmp_path / "ours-1" / "episodes.jsonl")
    assert len(episodes) >= ended
    times = json.loads((tmp_path / "ours-1" / "times.json").read_text())
    assert (times["steps"], times["updates"], times["n_policy"]) == (152, 3, 152)
    assert 0 < times["extra"] < times["train"] < times["total"]
    facts = json.loads((tmp_path / "ours-1" / "provenance.json").read_text())
    assert (facts["settings"]["steps"], facts["settings"]["batch"]) == (152, 8)


def test_an_interrupted_run_is_not_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(dreamerv3_gym, "main", lambda cfg: 1)
    with pytest.raises(SystemExit, match="stopped at step 0 of 40"):
        ours.run("cartpole", seed=0, steps=40, out=str(tmp_path))
    assert not (tmp_path / "times.json").exists()


def test_the_permutation_test():
    assert permutation([1.0, 2.0, 3.0], [7.0, 8.0, 9.0]) == pytest.approx(2 / 20)
    assert permutation([1.0], [4.0, 5.0]) == pytest.approx(1 / 3)
    assert permutation([4.0, 4.0], [4.0, 4.0]) == 1.0
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 11))  # 705,432 ways: a sample of them
    assert permutation(first[:10], second[:10]) > 0.01
    assert permutation(first, second + 10) < 1e-4


OFFICIAL = ("loss/rew", "loss/con", "loss/dyn", "loss/rep", "loss/policy", "loss/value")
OFFICIAL += ("loss/repval", "loss/vector", "dyn_ent", "rep_ent", "ent/action", "val", "tar", "rew")
OFFICIAL += ("con", "adv_mag", "opt/grad_norm", "opt/update_rms", "opt/param_rms")
OURS = ("loss/reward", "loss/cont", "loss/dyn", "loss/rep", "loss/actor", "loss/critic", "loss/obs")
OURS += ("loss/replay_critic", "prior_entropy", "posterior_entropy", "policy_entropy", "value")
OURS += ("return", "reward", "continue", "advantage_abs", "grad_norm", "update_rms", "param_rms")


def finished(folder, side, seed, level, steps=30):
    """A run of three updates whose metrics are `level`, 2 × and 3 × `level`."""
    record = Record(str(folder / f"{side}-{seed}"))
    record.begin()
    for number in (1, 2, 3):
        record.step = 10 * number
        values = dict.fromkeys(OFFICIAL if side == "official" else OURS, level * number)
        record.update(number, {"lo": 0.0, "hi": level * number, **values})
        record.episode(100 * level * number, 10)
    record.step = steps
    record.finish()
    path = folder / f"{side}-{seed}" / "times.json"
    times = {"total": 0.6 * level, "cpu_total": 0.3 * level, "policy": 0.06, "train": 0.2}
    times |= {"n_policy": 30, "steps": steps, "updates": 3}
    path.write_text(json.dumps(times))


@pytest.fixture
def folder(tmp_path):
    """Two official seeds at levels 1 and 3, two of ours at 2 and 4."""
    for side, levels in (("official", (1.0, 3.0)), ("ours", (2.0, 4.0))):
        for seed, level in enumerate(levels):
            finished(tmp_path / "cartpole", side, seed, level)
    return tmp_path


def test_a_comparison_by_hand(folder):
    (folder / "cartpole" / "ours-2").mkdir()  # not finished: left out
    data = compare(read(folder / "cartpole"), "cartpole")
    assert data["seeds"] == {"official": [0, 1], "ours": [0, 1]}
    assert (data["steps"], data["updates"], data["bins"]) == (30, 3, [0, 1, 2, 3])
    assert data["smallest p"] == pytest.approx(1 / 3, rel=1e-3)
    reward = data["metrics"]["reward loss"]
    assert reward["official"] == [4.0, 2.0, 6.0]  # 2 × the level
    assert reward["ours"] == [6.0, 4.0, 8.0]
    assert reward["p"] == pytest.approx(4 / 6, rel=1e-3)  # of 6 splits, 2 differ less than by 2
    assert reward["curves"]["official"] == [[2.0, 4.0, 6.0], [1.0, 2.0, 3.0], [3.0, 6.0, 9.0]]
    assert reward["outside"] == {"official": 0.0, "ours": 0.0}
    # without weights: 100, 0.1 and 0.3
    assert data["metrics"]["reconstruction loss"]["ours"] == [0.06, 0.04, 0.08]
    assert data["metrics"]["reconstruction loss"]["outside"] == {"official": 1.0, "ours": 1.0}
    assert data["metrics"]["representation loss"]["ours"] == [60.0, 40.0, 80.0]
    assert data["metrics"]["replayed critic loss"]["ours"] == [20.0, 13.33, 26.67]
    assert data["metrics"]["return scale"]["official"] == [4.0, 2.0, 6.0]
    returns = data["returns"]
    assert returns["step"][4] == 10.0
    assert returns["official"][0][3:5] == [None, 200.0]  # the mean of 100 and 300
    assert returns["ours"][2][4:11] == [400.0] * 5 + [800.0] * 2  # an empty bin carries on
    assert returns["late episodes"]["by seed"] == {
        "official": [250.0, 750.0],
        "ours": [500.0, 1000.0],
    }
    assert returns["late episodes"]["episodes"] == {"official": 4, "ours": 4}
    step = data["times"]["wall, environment step"]
    assert step == {"official": 40.0, "ours": 60.0, "ratio": 1.5}
    assert data["times"]["wall, acting"]["ratio"] == 1.0
    assert data["times"]["wall, update"] == {"official": 380.0, "ours": 580.0, "ratio": 1.526}
    assert next(iter(data["times"])) == "CPU, environment step"
    assert "| reward loss | 4 (2 … 6) | 6 (4 … 8) | 0.67 | 0% / 0% |" in tables(data)
    assert "Seeds: 2 official, 2 worldblocks; no p is below 0.33" in tables(data)


def test_compare_draws_what_is_there(folder, capsys):
    assert main(["cartpole", "--out", str(folder), "--compare"]) == 0
    assert json.loads((folder / "cartpole.json").read_text())["game"] == "cartpole"
    assert (folder / "cartpole.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / "cartpole.md").read_text().strip() in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_sentence(folder, capsys):
    words = ["pendulum", "--out", str(folder), "--compare"]
    assert main(words) == 2
    assert "has no finished run of official: folders such as official-0" in capsys.readouterr().err
    finished(folder / "cartpole", "ours", 5, 1.0, steps=40)
    assert main(["cartpole", *words[1:]]) == 2
    assert "have 30, 40 steps; only runs of equal length are comp" in capsys.readouterr().err


def interpreter(folder, imports, runs):
    """A program in place of Python: what it does with `-c`, and with `-m`."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nif [ "$1" = "-c" ]; then {imports}; else {runs}; fi\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def plan(tmp_path):
    """A plan whose official side begins and then fails."""
    (tmp_path / "code" / "dreamerv3").mkdir(parents=True)
    (tmp_path / "code" / "dreamerv3" / "agent.py").touch()

    def make(imports="true", runs="echo first; echo no such task; exit 3", **given):
        given = {"python": interpreter(tmp_path, imports, runs), "steps": 30} | given
        given = {"official": str(tmp_path / "code")} | given
        return Plan(game="cartpole", seeds=[0], out=tmp_path / "out", **given)

    return make


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"steps": 25}, r"plays 10 steps at a time, so --steps takes a multiple of 10, got 25"),
        ({"official": ""}, r"--official takes the path of a checkout of github.*, got ''"),
        ({"official": "/nowhere"}, r"got '/nowhere', which has no dreamerv3/agent\.py; --compare"),
        ({"python": "no-python"}, r"--python takes the interpreter of the .*, got 'no-python'"),
        (
            {"imports": "echo No module named elements >&2; exit 1"},
            r"cannot import what the official code needs \(No module named elements\); .* would do",
        ),
    ],
)
def test_an_official_side_that_cannot_run_is_one_sentence(plan, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(**given).check()


def test_a_failed_run_names_its_last_words(plan):
    made = plan()
    made.check()
    with pytest.raises(
        RuntimeError, match=r"official-0 ended with exit code 3 .* first / no such task; all of"
    ):
        made.run()


def test_finished_seeds_are_left_alone(plan, capsys):
    made = plan()
    for side in ("official", "ours"):
        finished(made.out / "cartpole", side, 0, 1.0)
    made.run()
    assert capsys.readouterr().out == "official-0: finished before\nours-0: finished before\n"
    with pytest.raises(ValueError, match=r"holds a run of 30 steps, and --steps is 40; use anoth"):
        plan(steps=40).run()


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_published_tables_are_those_of_the_data(path, tmp_path):
    data = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == tables(data) + "\n"
    draw(data, tmp_path / "again.png")
    assert path.with_suffix(".png").exists()
