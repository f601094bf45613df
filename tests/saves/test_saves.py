"""Run folders of earlier versions: each still loads, plays and goes on.

`format-0` is of commit be26126, which wrote no format into `config.json`:

    python recipes/dreamerv3_gym.py smoke --units 8 --deter 16 --hidden 8 --groups 2 --classes 3 \
        --steps 128 --save-every 64 --log-every 32 --capacity 60 --prefill 32 --logdir logs/cartpole
"""

import json
import shutil
from pathlib import Path

import pytest
import tiny_runs
import torch

import dreamerv3_gym
import evaluate
import worldblocks as wb
from worldblocks.run.config import FORMAT

SAVES = sorted(path for path in Path(__file__).parent.iterdir() if path.name.startswith("format-"))


@pytest.fixture(params=SAVES, ids=lambda path: path.name)
def saved(request, tmp_path):
    return shutil.copytree(request.param, tmp_path / "run")


def test_it_loads(saved):
    agent, cfg = dreamerv3_gym.load(saved)
    assert (cfg.env, cfg.units, cfg.steps) == ("CartPole-v1", 8, 128)
    tensors = wb.run.Checkpoint(saved).weights("agent")
    assert all(torch.equal(agent.state_dict()[name], x) for name, x in tensors.items())


def test_it_is_evaluated(saved, capsys):
    assert evaluate.main(evaluate.Config(run=saved, episodes=2, envs=2, json=True)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 2


def test_it_goes_on(saved):
    """With its agent, optimiser, replay and environments, and every line it had."""
    before, lines = tiny_runs.state(saved), (saved / "metrics.jsonl").read_text()
    cfg = wb.run.load_config(saved, dreamerv3_gym.Config)
    tiny_runs.run(dreamerv3_gym, cfg, saved, steps=192, resume=True)
    after = tiny_runs.state(saved)
    assert (before["position"]["step"], after["position"]["step"]) == ([128], [192])
    assert (before["position"]["updates"], after["position"]["updates"]) == ([6], [10])
    assert (saved / "metrics.jsonl").read_text().startswith(lines)
    metrics = wb.run.read_jsonl(saved / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [32, 64, 96, 128, 160, 192]
    assert abs(metrics[-1]["loss/reward"] - metrics[3]["loss/reward"]) < 0.1
    assert wb.run.read_config(saved)["format"] == FORMAT


def test_its_first_row_has_the_action_that_led_to_it(saved, monkeypatch):
    """Its rows were saved without `prev_action`; the position has what the agent carried."""
    led, added = tiny_runs.state(saved)["position"]["carry"][-1], []
    add = wb.replay.SequenceReplay.add
    monkeypatch.setattr(
        wb.replay.SequenceReplay, "add", lambda self, **row: added.append(row) or add(self, **row)
    )
    cfg = wb.run.load_config(saved, dreamerv3_gym.Config)
    tiny_runs.run(dreamerv3_gym, cfg, saved, steps=132, resume=True)
    assert "prev_action" not in tiny_runs.state(SAVES[0])["envs"]["rows"]
    assert led.any()
    assert torch.equal(added[0]["prev_action"], led)


def test_a_folder_of_a_later_version_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "format": FORMAT + 1}))
    message = f"has format {FORMAT + 1}; this version of worldblocks reads up to"
    with pytest.raises(ValueError, match=message):
        dreamerv3_gym.load(saved)
