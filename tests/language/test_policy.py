"""A language model as policy: probabilities by hand, trained and saved parameters."""

import copy
import sys

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra llm")
pytest.importorskip("peft", reason="needs the extra llm")

from worldblocks.distributions import OneHot
from worldblocks.language import LanguagePolicy, MissingCapability, untrained_llama
from worldblocks.losses import clipped_policy, clipped_value
from worldblocks.testing import ScriptedLM

ACTIONS = ["go", "turn left", "drop"]
PROMPTS = ["Goal: go to the ball Action 0:", "Goal: wait Action 0:", "Goal: wait Action 0:"]


def made(rank=2, **options):
    torch.manual_seed(0)
    model = untrained_llama(units=12, layers=2, heads=2, context=200)
    return model, LanguagePolicy(model, ACTIONS, rank=rank, units=7, **options)


def test_logits_are_the_log_probabilities_of_the_phrases():
    model, policy = made()
    phrases = [f" {action}" for action in ACTIONS]
    wanted = [model.score([prompt] * 3, phrases) for prompt in PROMPTS]
    judged = policy(PROMPTS)
    torch.testing.assert_close(judged.logits.detach(), torch.stack(wanted), rtol=0, atol=1e-4)
    assert judged.value.shape == (3,)
    torch.testing.assert_close(judged.value[1], judged.value[2])
    assert torch.isclose(OneHot(judged.logits).probs.sum(-1), torch.ones(3)).all()


def test_the_mean_over_tokens_ignores_the_length_of_a_phrase():
    model, policy = made(per_token=True)
    model.network.get_output_embeddings().weight.data.zero_()
    torch.testing.assert_close(OneHot(policy(PROMPTS).logits).probs, torch.full((3, 3), 1 / 3))
    _, policy = made()
    assert OneHot(policy(PROMPTS).logits).probs[:, 0].min() > 0.99, "the shortest phrase"


def test_only_the_additions_and_the_value_head_are_trained_and_saved():
    model, policy = made(rank=3)
    before = copy.deepcopy(model.network.state_dict())
    names = set(policy.state_dict())
    assert {name.split(".")[0] for name in names} == {"adapter", "value"}
    added = sum(p.numel() for p in policy.adapter.parameters())
    assert added == 2 * 2 * 2 * 3 * 12  # layers, projections, matrices, rank, width
    learn(policy)
    after = model.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    assert not [p for n, p in model.network.named_parameters() if p.requires_grad != ("lora_" in n)]


def test_without_rank_all_weights_are_trained():
    model, policy = made(rank=0)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    learn(policy)
    after = model.network.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def learn(policy, steps=2):
    """PPO on a bandit: the second phrase is rewarded; gives its probability."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    action = torch.eye(3).repeat(2, 1)
    prompts = [prompt for prompt in PROMPTS[:2] for _ in range(3)]
    reward = action[:, 1]
    with torch.no_grad():
        judged = policy(prompts)
        old, old_value = OneHot(judged.logits).log_prob(action), judged.value
    for _ in range(steps):
        judged = policy(prompts)
        log_prob = OneHot(judged.logits).log_prob(action)
        advantage = reward - reward.mean()
        loss = clipped_policy(log_prob, old, advantage, clip=1e3).mean()
        loss = loss + clipped_value(judged.value, old_value, reward, clip=1e3).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return OneHot(policy(prompts).logits).probs[:, 1]


def test_it_learns_the_rewarded_phrase():
    assert (learn(made(rank=0, per_token=True)[1], steps=30) > 0.6).all()


def test_a_saved_policy_acts_the_same():
    _, policy = made()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    _, again = made()
    assert not torch.allclose(policy(PROMPTS).logits, again(PROMPTS).logits)
    again.load_state_dict(policy.state_dict())
    assert torch.equal(policy(PROMPTS).logits, again(PROMPTS).logits)
    assert torch.equal(policy(PROMPTS).value, again(PROMPTS).value)


def test_prompts_that_are_too_long():
    """A prompt of one observation is 70 bytes; each further one adds its own and an action."""
    _, policy = made()
    prompt = "Goal: go" + "." * 38 + " \n Observation 0: wall"
    policy(["a" * 190])
    with pytest.raises(
        ValueError, match="reads 200 tokens, got 201 of a prompt and an action; use"
    ):
        policy(["a" * 191])
    data = torch.tensor([list(prompt.encode()) + [0] * 230])
    for history in (1, 4):
        policy.check(data, history)
    with pytest.raises(
        ValueError, match=r"--history 5: .* \(untrained-llama-2x12 reads 200 tokens"
    ):
        policy.check(data, 5)
    with pytest.raises(ValueError, match=r"--history 12: prompts grow to about [0-9]+ bytes, and"):
        policy.check(data, 12)


def test_invalid_arguments(monkeypatch):
    with pytest.raises(MissingCapability, match="scripted cannot train; PackagedLM or"):
        LanguagePolicy(ScriptedLM({}), ACTIONS, rank=2)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"LanguagePolicy needs the extra .llm.: pip install -e "):
        made()
