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


class Scored(NamedTuple):
    """Log-probabilities of completions, and the last hidden state of each context."""

    log_prob: Float[Tensor, " pairs"]
    hidden: Float[Tensor, "contexts embed"]


def score_branches(
    network: nn.Module, contexts: list[list[int]], completions: list[list[int]], owner: list[int]
) -> Scored:
    """Log-probability of each completion after its context.

    The common prefix of all contexts is read once, then the rest of each context, then the
    completions, each from the key-value cache of its prefix. Gradients flow through every part.

    Args:
        network: a causal language model of Hugging Face's transformers.
        contexts, completions: token ids, at least one in each.
        owner: index of the context of each completion.
    """
    common, prefix = 0, None
    if len(contexts) > 1:
        shared = itertools.takewhile(lambda x: len(set(x)) == 1, zip(*contexts, strict=False))
        common = min(len(list(shared)), min(map(len, contexts)) - 1)  # one token is left to each
    if common:
        prefix = _read(network, None, [contexts[0][:common]])
        prefix = _take(prefix, [0] * len(contexts))
    prefix = _read(network, prefix, [context[common:] for context in contexts])
    return Scored(_follow(network, _take(prefix, owner), completions), prefix.hidden)


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
