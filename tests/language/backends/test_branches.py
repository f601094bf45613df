"""Scores of completions with shared parts run once, against the whole text run for each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="needs the extra llm")

from worldblocks.language import untrained_llama
from worldblocks.language.backends.branches import score_branches

rows = st.lists(st.integers(0, 20), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = untrained_llama(units=24, layers=2, heads=3, context=64).network.double()
    for parameter in network.parameters():  # far from uniform predictions
        parameter.data.mul_(8)
    return network


def slowly(network, context, completion):
    logits = network(input_ids=torch.tensor([context + completion])).logits[0].double()
    start = len(context) - 1
    return sum(logits[start + i].log_softmax(-1)[token] for i, token in enumerate(completion))


@settings(max_examples=20)
@given(st.lists(st.tuples(rows, st.lists(rows, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_scores_equal_those_of_whole_texts(network, branches):
    """Whatever the contexts share, and however long each is."""
    contexts = [[1, 2, *context] for context, _ in branches]
    completions = [row for _, several in branches for row in several]
    owner = [i for i, (_, several) in enumerate(branches) for _ in several]
    with torch.no_grad():
        found = score_branches(network, contexts, completions, owner)
        wanted = [
            slowly(network, contexts[i], row) for i, row in zip(owner, completions, strict=True)
        ]
        last = [network(input_ids=torch.tensor([c]), output_hidden_states=True) for c in contexts]
    # The network is in float64, log-softmax in float32.
    torch.testing.assert_close(found.log_prob.double(), torch.stack(wanted), rtol=0, atol=1e-4)
    hidden = torch.cat([out.hidden_states[-1][:, -1] for out in last])
    torch.testing.assert_close(found.hidden, hidden, rtol=0, atol=1e-9)


def test_gradients_equal_those_of_whole_texts(network):
    contexts, completions, owner = [[1, 2, 3], [1, 2, 9, 9]], [[4, 5], [6], [7, 8, 9]], [0, 1, 1]
    parameters = list(network.parameters())
    found = score_branches(network, contexts, completions, owner).log_prob.square().sum()
    pairs = zip(owner, completions, strict=True)
    wanted = sum(slowly(network, contexts[i], row) ** 2 for i, row in pairs)
    ours = torch.autograd.grad(found, parameters)
    theirs = torch.autograd.grad(wanted, parameters)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= 1e-3 * other.abs().max()


def test_a_shared_context_is_read_once(network):
    """Tokens that the network is given: the context once, and each completion but its last."""
    read = []

    def count(module, args, kwargs):
        read.append(kwargs["input_ids"].numel())

    handle = network.register_forward_pre_hook(count, with_kwargs=True)
    score_branches(network, [[1] * 30], [[4, 5, 6]] * 7, [0] * 7)
    score_branches(network, [[1] * 30 + [i] for i in range(5)], [[4]] * 5, [*range(5)])
    handle.remove()
    assert read == [30, 7 * 2, 30, 5]
