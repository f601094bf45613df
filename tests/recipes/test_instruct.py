"""`instruct` on a real run: policies for sentences, from its replay alone."""

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


SHORT = {"by": "oracle", "fit": 1, "updates": 2, "settle": 1, "episodes": 2, "random": 3}


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
    assert str(whole) not in (tmp_path / "result.json").read_text()  # results are kept: no paths
    one = result["sentences"][0]
    assert one["policy"] == one["oracle"]  # the same phrase, so the same policy
    assert one["best_head"] == f"head of {TASK}"
    counts = {name: len(by[one["meant"]]) for name, by in result["scores"].items()}
    assert counts == {"random": 3, one["chosen"]: 2, "spin the pole fast": 2, one["best_head"]: 2}
    assert "of 2 sentences" in capsys.readouterr().out
    after = wb.run.Checkpoint(whole).weights("agent")
    assert all(torch.equal(before[name], after[name]) for name in before)


def begun(whole, **changes):
    """The agent of `instruct.main` before its first update, and a function that updates it."""
    instruction = "balance the pole upright"
    cfg = instruct.Config(run=whole, instruction=instruction, **{**SHORT, **changes})
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    menu = wb.language.body_menu("cartpole")
    rewards = {
        phrase: menu.spec(phrase).compile(wb.language.sample_features(menu.ranges))
        for phrase in (instruction, "keep the pole still")
    }
    replay = instruct.stored(cfg, saved)
    ranges, nearest = instruct.looked_at(replay, menu.ranges, rewards)
    assert nearest == dict.fromkeys(rewards, TASK)
    agent, optimizer, _ = instruct.prepare(cfg, multitask_dmc, saved, ranges, nearest)
    mixture = replay.sample({TASK: 4})

    def update(step):
        """Returns the names of the tensors that changed."""
        before = {name: x.clone() for name, x in agent.state_dict().items()}
        instruct.update(agent, optimizer, multitask_dmc, saved, mixture, rewards, cfg, step)
        return {name for name, x in agent.state_dict().items() if not torch.equal(x, before[name])}

    return agent, rewards, update


@pytest.mark.parametrize("imagined", ["features", "head"])
def test_only_new_heads_learn_one_after_another(whole, imagined):
    agent, rewards, update = begun(whole, imagined=imagined)
    saved_world = wb.run.Checkpoint(whole).weights("agent")
    world = [name for name in agent.state_dict() if not name.startswith(("heads.", "features."))]
    fitted = update(0) | update(0)  # the first moves nothing: the warm-up starts at 0
    settled, all_of_it = update(1) | update(1), update(2) | update(2)
    parts = [
        {name.split(".")[3 if name[0] == "h" else 0] for name in moved}
        for moved in (fitted, settled, all_of_it)
    ]
    assert parts[0] == {"features", "reward"}
    assert parts[1] == parts[0] | {"value", "slow_value", "return_scale"}
    assert parts[2] == parts[1] | {"actor"}
    for phrase in rewards:
        assert any(name.startswith(f"heads.parts.{phrase}.actor") for name in all_of_it)
    assert all(torch.equal(agent.state_dict()[name], saved_world[name]) for name in world)


@pytest.mark.parametrize(("begin", "same"), [("nearest", True), ("new", False)])
def test_actors_begin_as_the_nearest_head_or_new(whole, begin, same):
    agent, rewards, _ = begun(whole, begin=begin)
    found = wb.run.Checkpoint(whole).weights("agent")
    first = "actor.actor.mlp.0.linear.weight"
    for phrase in rewards:
        own = agent.state_dict()[f"heads.parts.{phrase}.{first}"]
        assert torch.equal(own, found[f"heads.parts.{TASK}.{first}"]) is same


def test_features_are_predicted_in_units_of_the_replay(whole):
    """A feature's range is its mean ± standard deviation there, not the menu's range."""
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    replay = instruct.stored(instruct.Config(run=whole, instruction="up"), saved)
    rows = replay.sample({TASK: 512}).feature
    ranges, _ = instruct.looked_at(replay, wb.language.body_menu("cartpole").ranges, {})
    for name, (low, high, bit) in ranges.items():
        assert not bit
        assert (high - low) / 2 == pytest.approx(float(rows[name].std()), rel=0.2)


def test_another_discount():
    class Half(torch.nn.Module):
        def forward(self, feature):
            return wb.distributions.Bernoulli(torch.zeros(len(feature)))

    ours = instruct.Discounted(Half(), 0.8)
    assert ours(torch.ones(3, 2)).mean.tolist() == pytest.approx([0.4] * 3)


def test_a_score_sums_the_rows_that_were_played(whole):
    """All rows except the first of the episode, and none after its end."""
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    envs = multitask_dmc.task_suite(saved).envs(TASK, 2, seed=3)
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
    assert (torch.tensor(scores) - few <= wb.language.rewards.compiled.BOUND).all()
    assert (torch.tensor(scores) >= few).all()


def test_messages(whole, tmp_path):
    with pytest.raises(ValueError, match="either a sentence "):
        instruct.Config(run=whole)
    with pytest.raises(ValueError, match="fewer than the 2 --updates, got 2"):
        instruct.Config(run=whole, instruction="up", updates=2, settle=2)
    (tmp_path / "config.json").write_text('{"recipe": "dreamerv3_dmc", "task": "walker_walk"}')
    with pytest.raises(ValueError, match="made by the recipe 'dreamerv3_dmc' with the body ''"):
        instruct.main(instruct.Config(run=tmp_path, instruction="up"))
    config = {"recipe": "multitask_dmc", "tasks": ["walker_walk"], "conditioned": True}
    (tmp_path / "config.json").write_text(json.dumps({**config, "relabel": True}))
    with pytest.raises(ValueError, match="conditioned=True, relabel=True; a sentence needs"):
        instruct.main(instruct.Config(run=tmp_path, instruction="up"))
    for text in ("", '[[sentence]]\ninstruction = "up"\n'):
        (tmp_path / "none.toml").write_text(text)
        cfg = instruct.Config(run=whole, sentences=str(tmp_path / "none.toml"), **SHORT)
        with pytest.raises(ValueError, match=r"has no \[\[sentence\]\], or one without"):
            instruct.main(cfg)
    saved = wb.run.load_config(whole, multitask_dmc.Config, device="cpu")
    with pytest.raises(FileNotFoundError, match="has no replay left to learn from"):
        instruct.stored(instruct.Config(run=tmp_path, instruction="up"), saved)
