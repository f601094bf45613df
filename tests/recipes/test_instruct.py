"""A sentence to a trained world: a policy from its replay alone."""

import json

import pytest
import torch

import instruct
import multitask_dmc
import worldblocks as wb

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TASK = "cartpole_balance"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    pytest.importorskip("dm_control", reason="needs the extra dmc")
    folder = tmp_path_factory.mktemp("world")
    given = {"tasks": (TASK,), "logdir": str(folder), "judge": 0}
    smoke = {**multitask_dmc.PRESETS["smoke"].__dict__, **given}
    assert multitask_dmc.main(multitask_dmc.Config(**smoke)) == 0
    return folder


SHORT = {"by": "oracle", "updates": 2, "episodes": 2, "random": 3}


def test_sentences_become_policies(whole, tmp_path, capsys):
    file = tmp_path / "sentences.toml"
    file.write_text(
        '[[sentence]]\ninstruction = "up with it"\nmeant = "balance the pole upright"\n'
        '[[sentence]]\ninstruction = "round and round"\nmeant = "spin the pole fast"\n'
    )
    before = wb.run.Checkpoint(whole).weights("agent")
    cfg = instruct.Config(run=whole, sentences=str(file), logdir=str(tmp_path), **SHORT)
    assert instruct.main(cfg) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["chosen"] for row in result["sentences"]] == [
        "balance the pole upright",
        "spin the pole fast",
    ]
    known = {"run": whole.name, "seed": 0, "by": "oracle", "updates": 2}
    assert {key: result[key] for key in known} == known
    assert str(whole) not in (tmp_path / "result.json").read_text()  # a file to be kept: no paths
    one = result["sentences"][0]
    assert one["policy"] == one["oracle"]  # the same phrase, so the same policy
    assert one["best_head"] == f"head of {TASK}"
    counts = {name: len(by[one["meant"]]) for name, by in result["scores"].items()}
    assert counts == {"random": 3, one["chosen"]: 2, "spin the pole fast": 2, one["best_head"]: 2}
    assert "of 2 sentences" in capsys.readouterr().out
    after = wb.run.Checkpoint(whole).weights("agent")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("imagined", ["features", "head"])
def test_only_the_new_heads_learn(whole, imagined):
    cfg = instruct.Config(run=whole, instruction="balance the pole upright", **SHORT)
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    menu = wb.language.body_menu("cartpole")
    rewards = {
        phrase: menu.spec(phrase).compile(wb.language.sample_features(menu.ranges))
        for phrase in ("balance the pole upright", "keep the pole still")
    }
    agent, optimizer, _ = instruct.prepare(cfg, multitask_dmc, saved, menu.ranges, list(rewards))
    saved_world = wb.run.Checkpoint(whole).weights("agent")
    mixture = instruct.stored(cfg, saved).sample({TASK: 4})
    before = {name: x.clone() for name, x in agent.state_dict().items()}
    for _ in range(2):  # the first leaves outputs at zero: their inputs have no gradient yet
        instruct.update(agent, optimizer, multitask_dmc, saved, mixture, rewards, imagined)
    moved = {name for name, x in agent.state_dict().items() if not torch.equal(x, before[name])}
    new = ("heads.", "features.")
    assert moved
    assert all(name.startswith(new) for name in moved)
    for phrase in rewards:
        assert any(name.startswith(f"heads.parts.{phrase}.actor") for name in moved)
    world = [name for name in before if not name.startswith(new)]
    assert all(torch.equal(before[name], saved_world[name]) for name in world)


def test_the_score_is_that_of_the_rows_that_were_played(whole):
    """Of every row but the one that opens the episode, and of none after it ended."""
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    envs = multitask_dmc.stage(saved).envs(TASK, 2, seed=3)
    menu = wb.language.body_menu("cartpole")
    reward = menu.spec("let the pole hang down").compile(wb.language.sample_features(menu.ranges))
    seen = []

    def policy(rows):
        seen.append(wb.envs.split_features(rows.obs)[1])
        return torch.zeros(2, 1)

    [scores] = instruct.played(policy, envs, {"hang": reward}).values()
    assert len(seen) == 1000 // saved.repeat
    rows = [reward({name: row[name] for name in reward.names}) for row in seen[1:]]
    few = torch.stack(rows).sum(0)
    assert (torch.tensor(scores) - few <= wb.language.compiled.BOUND).all()
    assert (torch.tensor(scores) >= few).all()


def test_what_it_refuses(whole, tmp_path):
    with pytest.raises(ValueError, match="either a sentence "):
        instruct.Config(run=whole)
    with pytest.raises(ValueError, match="--updates takes 1 or more, got 0"):
        instruct.Config(run=whole, instruction="up", updates=0)
    (tmp_path / "config.json").write_text('{"recipe": "dreamerv3_dmc", "task": "walker_walk"}')
    with pytest.raises(SystemExit, match="made by the recipe 'dreamerv3_dmc' with the body ''"):
        instruct.main(instruct.Config(run=tmp_path, instruction="up"))
    told = {"recipe": "multitask_dmc", "tasks": ["walker_walk"], "conditioned": True}
    (tmp_path / "config.json").write_text(json.dumps({**told, "relabel": True}))
    with pytest.raises(SystemExit, match="conditioned=True, relabel=True; a sentence needs"):
        instruct.main(instruct.Config(run=tmp_path, instruction="up"))
    (tmp_path / "none.toml").write_text("")
    cfg = instruct.Config(run=whole, sentences=str(tmp_path / "none.toml"), **SHORT)
    with pytest.raises(SystemExit, match=r"has no \[\[sentence\]\]"):
        instruct.main(cfg)
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    with pytest.raises(SystemExit, match="has no replay any more"):
        instruct.stored(instruct.Config(run=tmp_path, instruction="up"), saved)
