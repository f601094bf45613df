"""Subject: the recurrent state-space model alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.subject import Case, Contestant, Subject
from benchmarks.tables import speed
from benchmarks.work import ACTIONS, Work
from benchmarks.worker import Timed


def functions(
    observe: Callable[[], Sequence[Any]],
    zero_grad: Callable[[], Any],
    imagine: Callable[[], Any],
) -> dict[str, Callable[[], Any]]:
    """The functions to time, by case.

    Args:
        observe: returns the tensors of posterior and prior of every row.
        zero_grad: clears the gradients after the backward pass.
        imagine: follows the policy.
    """
    import torch

    def observe_backward() -> None:
        torch.stack([part.sum() for part in observe()]).sum().backward()
        zero_grad()

    forward = {"observe": torch.no_grad()(observe), "imagine": torch.no_grad()(imagine)}
    return {**forward, "observe_backward": observe_backward}


def ours(work: Work) -> Timed:
    """The RSSM of the recipe's agent."""
    import torch

    import worldblocks as wb
    from benchmarks.ours import assemble, facts, plain_flops
    from benchmarks.torch_tools import parameters, prepare

    prepare(work.threads)
    agent = assemble(work).agent
    model = agent.rssm
    embed = torch.randn(*work.observe, agent.encoder.embed_dim)
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, work.observe)]
    is_first = torch.zeros(work.observe, dtype=torch.bool)
    is_first[:, 0] = True
    carry = model.initial(work.observe[0])
    begin = model.initial(work.imagine)
    start = wb.rssm.State(begin.memory, begin.stoch, begin.stoch)

    def observe() -> tuple[torch.Tensor, ...]:
        post = model.observe(carry, embed, action, is_first)
        return post.deter, post.stoch, post.parameters, model.latent.prior(post.deter)

    def imagine() -> None:
        wb.rssm.imagine(model, start, lambda s: agent.actor(s.feature()).sample(), work.horizon)

    calls = functions(observe, model.zero_grad, imagine)
    known = {"parameters": parameters(model), "flops": plain_flops(calls), **facts()}
    return Timed(functions=calls, **known)


def cases(work: Work) -> dict[str, Case]:
    """Observe forward and with backward, imagine forward."""
    observe = f"{work.size}, {work.observe[0]} × {work.observe[1]}"
    return {
        "observe": Case(f"observe, forward, {observe}"),
        "observe_backward": Case(f"observe, forward and backward, {observe}"),
        "imagine": Case(f"imagine, forward, {work.size}, {work.imagine} × {work.horizon}"),
    }


def summary(found: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """Compared with the scan of JAX."""
    ratios = [found[case]["ratios"].get("worldblocks", {}) for case in cases(Work())]
    if not all("official JAX" in one for one in ratios):
        return ""
    forward, backward, imagine = (speed(one["official JAX"]) for one in ratios)
    return (
        f"The scan of `RSSM.observe` runs at {forward} the speed of JAX's, with its backward pass "
        f"at {backward}, and imagination at {imagine}."
    )


SUBJECT = Subject(
    name="rssm",
    title="The recurrent state-space model",
    about=(
        "`observe` gives posterior and prior of a sequence of embeddings, `imagine` follows the "
        "policy; float32."
    ),
    cases=cases,
    contestants=(
        Contestant(name="worldblocks", adapter="rssm:ours", ours=True),
        Contestant(name="torchrl", adapter="peers.torchrl:rssm", peer="torchrl"),
        Contestant(name="sheeprl", adapter="peers.sheeprl:rssm", peer="sheeprl"),
        Contestant(name="r2dreamer", adapter="peers.r2dreamer:rssm", peer="r2dreamer"),
        Contestant(name="official JAX", adapter="peers.official:rssm", peer="jax"),
    ),
    summary=summary,
    counts_flops=True,
)
