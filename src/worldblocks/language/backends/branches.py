"""Log-probabilities of completions under a causal network; shared prefixes run once."""

import itertools
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Prefix(NamedTuple):
    """The prefix read so far, one row per sequence, and the predictions after it."""

    past: Any  # the network's key-value cache
    seen: Tensor  # 1 for tokens, 0 for padding
    logits: Tensor  # for the token after the last one of each row
    hidden: Tensor  # at the last token of each row


class Reading(NamedTuple):
    """How a network is read, and the width of its last hidden state."""

    branches: bool  # its cache can be branched; without, each text is run as a whole
    width: int


class Scored(NamedTuple):
    """Log-probabilities of completions, and the last hidden state of each context."""

    log_prob: Float[Tensor, " pairs"]
    hidden: Float[Tensor, "contexts embed"]


@torch.no_grad()
def reading_of(network: nn.Module) -> Reading:
    """How to read a network: a few short texts are run, from the cache and as a whole.

    Some networks have no key-value cache (Mamba, RWKV), or ignore the positions of padded texts
    when they read from it (MPT).

    Raises:
        ValueError: the network is not causal: an earlier token sees a later one.
    """
    training = network.training
    network.eval()
    most: Any = getattr(network, "get_input_embeddings")().num_embeddings  # noqa: B009
    contexts = [[3 % most, 1 % most, *(i % most for i in row)] for row in ([5], range(6, 15))]
    completions, owner = [[2 % most, 9 % most, 4 % most], [7 % most], [8 % most]], [0, 1, 1]
    device = next(network.parameters()).device
    other = [*contexts[1][:-1], 5 % most]
    pair = torch.tensor([contexts[1], other], device=device)
    out = network(input_ids=pair, use_cache=False)
    change = (out.logits[0].float() - out.logits[1].float()).abs().amax(-1)
    exact = out.logits.dtype in (torch.float32, torch.float64)
    if change[:-1].max() > (1e-4 if exact else 0.1) * change[-1]:
        raise ValueError(f"{type(network).__name__} is not causal: a token sees those after it")
    whole = _score_whole(network, contexts, completions, owner)
    try:
        found = score_branches(network, contexts, completions, owner)
        error = (found.log_prob - whole.log_prob).abs().max()
        branches = bool(error < (1e-3 if exact else 0.5))
    except Exception:  # whatever a network raises that has no cache, or one of another kind
        branches = False
    network.train(training)
    return Reading(branches, whole.hidden.shape[-1])


def score_branches(
    network: nn.Module,
    contexts: list[list[int]],
    completions: list[list[int]],
    owner: list[int],
    *,
    branches: bool = True,
) -> Scored:
    """Log-probability of each completion after its context.

    The common prefix of all contexts is read once, then the rest of each context, then the
    completions, each from the key-value cache of its prefix. Gradients flow through every part.

    Args:
        network: a causal language model of Hugging Face's transformers.
        contexts, completions: token ids, at least one in each.
        owner: index of the context of each completion; each context has one.
        branches: whether the cache can be branched (`reading_of`); if not, each completion is run
            together with its context.
    """
    if not branches:
        return _score_whole(network, contexts, completions, owner)
    common, prefix = 0, None
    if len(contexts) > 1:
        shared = itertools.takewhile(lambda x: len(set(x)) == 1, zip(*contexts, strict=False))
        common = min(len(list(shared)), min(map(len, contexts)) - 1)  # one token is left to each
    if common:
        prefix = _read(network, None, [contexts[0][:common]])
        prefix = _take(prefix, [0] * len(contexts))
    prefix = _read(network, prefix, [context[common:] for context in contexts])
    return Scored(_follow(network, _take(prefix, owner), completions), prefix.hidden)


def _score_whole(
    network: nn.Module, contexts: list[list[int]], completions: list[list[int]], owner: list[int]
) -> Scored:
    """As `score_branches`, from one run of each context with its completion, padded at its end."""
    device = next(network.parameters()).device
    rows = [contexts[i] + row for i, row in zip(owner, completions, strict=True)]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    out = network(input_ids=tokens, attention_mask=real, use_cache=False, output_hidden_states=True)
    starts = [len(contexts[i]) for i in owner]
    place = torch.arange(width, device=device)
    follows = (place >= torch.tensor(starts, device=device)[:, None]) & real.bool()
    log_prob = out.logits[:, :-1].float().log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    last = [owner.index(i) for i in range(len(contexts))]  # a row of each context
    hidden = out.hidden_states[-1][last, [len(context) - 1 for context in contexts]]
    return Scored((log_prob * follows[:, 1:]).sum(-1), hidden)


def _read(network: nn.Module, prefix: Prefix | None, rows: list[list[int]]) -> Prefix:
    """Read more tokens of each row, padded on the left so that the last tokens align."""
    device = next(network.parameters()).device
    width = max(map(len, rows))
    tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    out, seen = _run(network, prefix, tokens, real, keep=1)
    return Prefix(out.past_key_values, seen, out.logits[:, -1], out.hidden_states[-1][:, -1])


def _follow(network: nn.Module, prefix: Prefix, rows: list[list[int]]) -> Float[Tensor, " pairs"]:
    """Log-probability of each row of tokens after its prefix, summed over tokens."""
    device = prefix.logits.device
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    logits = prefix.logits[:, None]
    if width > 1:  # the last token is predicted, never read
        out, _ = _run(network, prefix, tokens[:, :-1], real[:, :-1], keep=0)
        logits = torch.cat([logits, out.logits], 1)
    log_prob = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return (log_prob * real).sum(-1)


def _take(prefix: Prefix, rows: list[int]) -> Prefix:
    """The prefix with these rows, which may repeat."""
    index = torch.tensor(rows, device=prefix.logits.device)
    prefix.past.batch_select_indices(index)  # in place; nothing else refers to it
    return Prefix(prefix.past, prefix.seen[index], prefix.logits[index], prefix.hidden[index])


def _run(network: nn.Module, prefix: Prefix | None, tokens: Tensor, real: Tensor, *, keep: int):
    """One call of the network: its output, and the mask of tokens read."""
    seen = real if prefix is None else torch.cat([prefix.seen, real], 1)
    position = (seen.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    out = network(
        input_ids=tokens,
        attention_mask=seen,
        position_ids=position,
        past_key_values=None if prefix is None else prefix.past,
        use_cache=True,
        logits_to_keep=keep,
        output_hidden_states=True,
    )
    return out, seen
