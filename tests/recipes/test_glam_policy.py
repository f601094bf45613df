"""The recipe of the published GLAM: smoke, exact resume, loading, and the data of PPO."""

import dataclasses

import pytest
import tiny_runs
import torch
from tiny_runs import same

pytest.importorskip("minigrid", reason="needs the extra minigrid")
pytest.importorskip("peft", reason="needs the extra llm")

import glam_policy as recipe
import worldblocks as wb

TINY = dataclasses.replace(
    recipe.PRESETS["smoke"], steps=16, rollout=4, epochs=1, log_every=8, save_every=8
)


def run(folder, **changes):
    return tiny_runs.run(recipe, TINY, folder, **changes)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    tiny_runs.smoke("glam_policy", folder)
    return folder


def test_smoke_writes_metrics(smoke):
    lines = wb.run.read_jsonl(smoke / "metrics.jsonl")
    assert [line["step"] for line in lines] == [16, 32, 48]
    assert all(line["grad_norm"] > 0 for line in lines)
    assert lines[0]["policy_entropy"] > 1, "an untrained model is nearly even"


def test_load_and_act(smoke):
    agent, cfg = recipe.load(smoke, device="cpu")
    envs = recipe.environments(cfg, 2, 5)
    rows = envs.reset()
    action, _ = recipe.act(agent, rows.obs, agent.initial(2), rows.is_first, mode=True)
    assert action.sum(-1).tolist() == [1, 1]
    assert action.shape == (2, 6)
    envs.step(action)
    envs.close()


def test_a_loaded_agent_equals_the_trained_one(tmp_path, monkeypatch):
    """An untrained model is not saved, but drawn again from the seed of the run."""
    built, build = [], recipe.build
    monkeypatch.setattr(recipe, "build", lambda cfg: built.append(build(cfg)) or built[-1])
    folder = run(tmp_path / "run", seed=3)
    torch.manual_seed(5)
    agent, _ = recipe.load(folder, device="cpu")
    with torch.no_grad():
        loaded, trained = (one.policy(["Goal: go"]) for one in (agent, built[0][0]))
    same(loaded, trained, "judged")


def test_evaluate_plays_it(smoke):
    agent, cfg = recipe.load(smoke, device="cpu")
    short = wb.envs.minigrid(cfg.env, max_steps=8)
    envs = wb.envs.EnvVector([wb.language.Prompted(short, wb.language.BABYAI_COMMANDS)], seed=7)
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, 1, mode=True)
    assert len(wb.evaluate.play(policy, envs, 1)) == 1


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path):
    whole = run(tmp_path / "whole")
    part = run(tmp_path / "part", steps=8)
    run(part, resume=True)
    assert (part / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    same(*(wb.run.Checkpoint(folder).weights("agent") for folder in (part, whole)), "agent")


def language_model(kind, folder, context):
    """A folder with a tiny model that reads bytes."""
    hub = pytest.importorskip("transformers", reason="needs the extra llm")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": 257, "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 256}
    torch.manual_seed(0)
    config = hub.AutoConfig.for_model(kind, **sizes, **ids, max_position_embeddings=context)
    hub.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    wb.language.untrained_llama(units=4, layers=1, heads=1).tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["gpt2", "phi3"])
def test_a_model_of_another_architecture(kind, tmp_path):
    """No module of theirs is named q_proj or v_proj."""
    folder = language_model(kind, tmp_path / kind, context=4000)
    one = run(tmp_path / "run", model=str(folder))
    agent, _ = recipe.load(one, device="cpu")
    assert agent.policy.adapter
    assert all(line["grad_norm"] > 0 for line in wb.run.read_jsonl(one / "metrics.jsonl"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "bert' has a BertLMHeadModel that cannot be read: .* is not causal"),
        ({"model": "gpt2", "rank": 0}, r"--history 2: the longest prompt with its action is too "),
        ({"model": "gpt2", "history": 1}, r"\(transformers:gpt2 reads 90 tokens, got [0-9]+; sho"),
        (
            {"history": 200},
            "--history 200: prompts grow to about [0-9]+ bytes, and the observation",
        ),
        ({"history": 0}, "--history takes 1 or more, got 0"),
        ({"env": "MiniGrid-Dynamic-Obstacles-5x5-v0"}, "one discrete action, and commands with it"),
        ({"env": "walker_walk"}, "unknown MiniGrid level 'walker_walk'"),
        ({"mission": " "}, "had the mission ' '; BabyAI-GoToRedBallNoDists-v0 has, for example"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_played(changes, message, tmp_path):
    if kind := changes.get("model"):
        changes["model"] = str(language_model(kind, tmp_path / kind, context=90))
    with pytest.raises((ValueError, wb.language.MissingModel), match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


class Script:
    """Rows of one environment: terminal at row 1, a time limit at row 4."""

    def __init__(self):
        self.reward = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
        self.last = torch.tensor([False, True, False, False, True, False])
        self.terminal = torch.tensor([False, True, False, False, False, False])
        self.t, self.finished, self.failures = 0, [], []

    @property
    def rows(self):
        here = slice(self.t, self.t + 1)
        obs = {"prompt": torch.tensor([[ord("0") + self.t]])}
        flags = (x[here] for x in (self.last, self.last, self.terminal))
        return wb.envs.Rows(obs, torch.zeros(1, 3), self.reward[here], *flags)

    def step(self, action):
        self.t += 1
        return self.rows


class Known:
    """Values 1, 2, 4, 8 … by the prompt, and uniform choices."""

    def policy(self, prompts):
        value = torch.tensor([2.0 ** int(prompt) for prompt in prompts])
        return wb.language.policy.Judged(torch.zeros(len(prompts), 3), value)


def test_a_rollout_by_hand():
    """γ = 1/2, λ = 1, reward times 20: a time limit bootstraps, a terminal row does not."""
    cfg = dataclasses.replace(TINY, envs=1, rollout=5, gamma=0.5, lam=1.0)
    rollout = recipe.collect(Known(), Script(), cfg, lambda: None)
    assert rollout.prompt == ["0", "2", "3"], "actions of the last rows 1 and 4 are not taken"
    assert rollout.value.tolist() == [1, 4, 8]
    assert rollout.target.tolist() == [20, 0.25 * 16, 0.5 * 16]
    assert rollout.advantage.tolist() == [19, 0, 0]
    assert rollout.action.sum(-1).tolist() == [1, 1, 1]
    torch.testing.assert_close(rollout.log_prob, torch.full((3,), 1 / 3).log())
