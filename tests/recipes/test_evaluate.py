"""Evaluation with a tiny recipe; real runs are evaluated in the tests of their recipes."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny_runs
import torch

import evaluate
import worldblocks as wb

PAGE = Path(__file__).parents[2] / "docs" / "recipes" / "load_and_act.md"


class Coin:
    """Action 1 gives reward 1; an episode is over after the next step, or after `length` steps."""

    def __init__(self, length):
        self.length = length
        self.observation = {"vector": wb.spaces.Continuous((2,))}
        self.action = {"action": wb.spaces.Discrete(2)}

    def reset(self, seed):
        self.at = 0
        return wb.envs.Step({"vector": np.zeros(2, np.float32)}, 0.0, True, False, False)

    def step(self, action):
        self.at += 1
        obs = {"vector": np.full(2, self.at, np.float32)}
        return wb.envs.Step(obs, float(action["action"]), False, self.at >= self.length, False)

    def get_state(self):
        return b""

    def close(self):
        pass


class Agent(torch.nn.Linear):
    """Its carry counts rows since `is_first`."""

    encoder = types.SimpleNamespace(picture_keys=())

    def initial(self, n):
        return torch.zeros(n)


def act(agent, obs, carry, is_first, mode=False):
    """Mostly action 1, which is the mode."""
    index = torch.ones(len(carry)) if mode else (torch.rand(len(carry)) < 0.7).float()
    return torch.stack([1 - index, index], -1), torch.where(is_first, 0, carry) + 1


@pytest.fixture
def run(tmp_path, monkeypatch):
    recipe = types.SimpleNamespace(
        __file__=str(Path(evaluate.__file__).with_name("dreamerv3_atari.py")),  # an existing file
        act=act,
        load=lambda run, device: (Agent(2, 3), None),
        environments=lambda cfg, n, seed: wb.envs.EnvVector(
            [Coin(2 + 3 * i) for i in range(n)], seed=seed
        ),
    )
    monkeypatch.setitem(sys.modules, "dreamerv3_atari", recipe)
    config = {"recipe": "dreamerv3_atari"}
    return wb.run.run_folder(tmp_path / "coins", config, resume=False)


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_an_agent_without_images_is_played_and_no_video_is_made(run, capsys):
    evaluate.main(evaluate.Config(run=run, episodes=5, envs=2, json=True))
    line, result = lines(capsys)
    assert line.startswith(f"{run}: mean ")
    assert "over 5 episodes of sampled actions, 95% interval" in line
    figures = json.loads(result)
    assert figures.keys() == {"mean", "std", "episodes", "low", "high", "parameters"}
    assert (figures["episodes"], figures["parameters"]) == (5, 9)
    assert sorted(path.name for path in run.iterdir()) == ["config.json"]


def test_the_mode_is_followed_by_samples(run, capsys):
    evaluate.main(evaluate.Config(run=run, episodes=5, envs=2, mode=True, json=True))
    mode, sampled, result = lines(capsys)
    # Three episodes of two steps and two of five: the shares are fixed in advance.
    assert "mean 3.20 over 5 episodes of the policy's mode" in mode
    assert "over 5 episodes of sampled actions" in sampled
    figures = json.loads(result)
    assert (figures["mean"], figures["episodes"]) == (3.2, 5)
    assert figures["sampled"]["episodes"] == 5
    assert figures["sampled"]["mean"] < 3.2
    evaluate.main(evaluate.Config(run=run, episodes=5, envs=2))
    assert lines(capsys) == [sampled]  # the same episodes


def test_one_episode_has_no_interval(run, capsys):
    evaluate.main(evaluate.Config(run=run, episodes=1, mode=True))
    assert lines(capsys)[0] == f"{run}: mean 2.00 over 1 episodes of the policy's mode"


def test_no_episodes_are_refused(run):
    with pytest.raises(ValueError, match="--episodes takes 1 or more, got 0"):
        evaluate.Config(run=run, episodes=0)


def test_episodes_without_an_end_are_given_up(run, capsys):
    with pytest.raises(RuntimeError, match="an episode has not ended after 1 actions; if the en"):
        evaluate.main(evaluate.Config(run=run, episodes=2, envs=2, seed=3, longest=1))


def test_an_unfinished_evaluation_returns_1(run, monkeypatch):
    late = property(lambda envs: "too many failures" if envs._taken > 20 else "")
    monkeypatch.setattr(wb.envs.EnvVector, "stopped", late)
    assert evaluate.main(evaluate.Config(run=run, episodes=4, envs=2)) == 0
    assert evaluate.main(evaluate.Config(run=run, episodes=400, envs=2, mode=True)) == 1


def test_environments_that_stopped_say_why(run, monkeypatch):
    monkeypatch.setattr(wb.envs.EnvVector, "stopped", "too many failures")
    with pytest.raises(RuntimeError, match="too many failures"):
        evaluate.main(evaluate.Config(run=run, episodes=3))


def test_the_page_load_and_act_runs(monkeypatch):
    """Its code blocks as one script, in the repository."""
    monkeypatch.chdir(PAGE.parents[2])
    code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    session: dict = {}
    for block in code:
        exec(block, session)
    assert len(session["scores"]) >= 4
    assert session["score"] > 0


def test_a_tool_finds_the_recipe_beside_it_by_its_path(tmp_path):
    """Not by `sys.path`, which need not have the folder of a script."""
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "dreamerv3_gym"}))
    call = tiny_runs.command("recipes/evaluate.py", tmp_path, PYTHONSAFEPATH="1", PYTHONPATH="src")
    done = subprocess.run(**call, capture_output=True, check=False)
    assert done.stderr.startswith(f"no checkpoint in {tmp_path}"), done.stderr
