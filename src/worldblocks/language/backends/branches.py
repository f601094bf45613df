"""Many continuations of few contexts through a causal network, each shared part run once."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Trunk(NamedTuple):
    """What has been read so far: rows of tokens, their keys and values, and what follows them."""

    past: Any  # the network's own cache
    seen: Tensor  # which cached positions are tokens and not padding
    logits: Tensor  # of the token after the last one of each row
    hidden: Tensor  # of the last token of each row


class Scored(NamedTuple):
    """Log-probabilities of completions and the state that each context ended in."""

    log_prob: Float[Tensor, " pairs"]
    hidden: Float[Tensor, "contexts embed"]


def score_branches(
    network: nn.Module, contexts: list[list[int]], completions: list[list[int]], owner: list[int]
) -> Scored:
    """Log-probability of each completion after the context that it belongs to.

    What all contexts begin with is read once, then the rest of each context, then the completions,
    each from the keys and values of what stands before it. Gradients flow through all of it.

    Args:
        network: a causal language model of Hugging Face's transformers.
        contexts, completions: tokens, at least one in each.
        owner: for each completion, which context it follows.
    """
    common = _common(contexts) if len(contexts) > 1 else 0
    trunk = None
    if common:
        trunk = _read(network, None, [contexts[0][:common]])
        trunk = _take(trunk, [0] * len(contexts))
    trunk = _read(network, trunk, [context[common:] for context in contexts])
    hidden = trunk.hidden
    return Scored(_follow(network, _take(trunk, owner), completions), hidden)


def _common(contexts: list[list[int]]) -> int:
    """How many tokens all contexts begin with; one is left to each, which says what follows."""
    shortest = min(map(len, contexts)) - 1
    first = contexts[0]
    for i in range(shortest):
        if any(context[i] != first[i] for context in contexts):
            return i
    return shortest


def _read(network: nn.Module, trunk: Trunk | None, rows: list[list[int]]) -> Trunk:
    """Read more tokens of each row: padded on the left, so that the last ones stand together."""
    device = next(network.parameters()).device
    width = max(map(len, rows))
    tokens = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    out, seen = _run(network, trunk, tokens, real, keep=1)
    return Trunk(out.past_key_values, seen, out.logits[:, -1], out.hidden_states[-1][:, -1])


def _follow(network: nn.Module, trunk: Trunk, rows: list[list[int]]) -> Float[Tensor, " pairs"]:
    """Sum of the log-probabilities of each row's tokens after its trunk."""
    device = trunk.logits.device
    width = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    logits = trunk.logits[:, None]
    if width > 1:  # the last token is predicted, never read
        out, _ = _run(network, trunk, tokens[:, :-1], real[:, :-1], keep=0)
        logits = torch.cat([logits, out.logits], 1)
    log_prob = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return (log_prob * real).sum(-1)


def _take(trunk: Trunk, rows: list[int]) -> Trunk:
    """The trunk with these of its rows, some of them many times."""
    index = torch.tensor(rows, device=trunk.logits.device)
    trunk.past.batch_select_indices(index)  # in place; nobody else holds it
    return Trunk(trunk.past, trunk.seen[index], trunk.logits[index], trunk.hidden[index])


def _run(network: nn.Module, trunk: Trunk | None, tokens: Tensor, real: Tensor, *, keep: int):
    """One call of the network; the output, and which positions it has now seen."""
    seen = real if trunk is None else torch.cat([trunk.seen, real], 1)
    position = (seen.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
    out = network(
        input_ids=tokens,
        attention_mask=seen,
        position_ids=position,
        past_key_values=None if trunk is None else trunk.past,
        use_cache=True,
        logits_to_keep=keep,
        output_hidden_states=True,
    )
    return out, seen
