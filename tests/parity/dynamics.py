"""Groups d and f: the RSSM and its core."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from parity.arrays import Arrays, action_spaces, core_sizes, rssm_sizes
from parity.functions import DYN, FREE_NATS, REP
from parity.record import Check, Record
from worldblocks.distributions import modes
from worldblocks.interop import load_jax
from worldblocks.losses import balanced_kl
from worldblocks.rssm import RSSM, BlockGRU, Carry, State, dreamer_rssm, rollout
from worldblocks.rssm.imagination import stack
from worldblocks.spaces import one_hot_action

SCOPE = "dyn"
STOCH_WEIGHT = 0.01  # of sum(stoch * [1 … classes]) in the loss whose gradients are recorded


def core_checks(file: Arrays) -> Iterator[Check]:
    """The core alone: its output and the gradients of its sum of squares."""
    yield Check("f", file.name, "block GRU: output; gradients", lambda r: _core(r, file))


def _core(record: Record, file: Arrays) -> None:
    params = file.at("params")
    core = BlockGRU(**core_sizes(params, SCOPE))
    load_jax(core, params, scope=SCOPE)
    inputs = [file.tensor(name).requires_grad_() for name in ("deter", "stoch", "action_embed")]
    deter, stoch, action = inputs
    out, _ = core.step(deter, stoch.flatten(1), core.project_action(action))
    record.value("out", out, file["out"])
    out.square().sum().backward()
    record.block("grads", core, file.at("grads"), SCOPE)
    for name, tensor in zip(("deter", "stoch", "action"), inputs, strict=True):
        record.gradient(f"grad_{name}", tensor.grad, file[f"grad_{name}"])


def rssm_checks(file: Arrays) -> Iterator[Check]:
    """Single steps, whole sequences with resets, open loop; losses and gradients."""
    what = "RSSM: observe, imagine, KL; gradients"
    yield Check("d", file.name, what, lambda r: _rssm(r, file))


def _rssm(record: Record, file: Arrays) -> None:
    params, inputs = file.at("params"), file.at("inputs")
    tokens, stoch = inputs.tensor("tokens"), inputs["carry.stoch"]
    rssm = dreamer_rssm(**rssm_sizes(params, SCOPE, stoch=stoch, embed=tokens.shape[-1]))
    load_jax(rssm, params, scope=SCOPE)
    size = params[f"{SCOPE}/dynin2/kernel"].shape[0]
    spaces = action_spaces(inputs.at("action"), size, batch_axes=2)
    action, imagined = (
        one_hot_action(spaces, {key: arrays.tensor(key) for key in arrays})
        for arrays in (inputs.at("action"), inputs.at("imag_action"))
    )
    carry = Carry(inputs.tensor("carry.deter"), inputs.tensor("carry.stoch"))
    rows = [carry, tokens, action, inputs.tensor("reset")]
    for case in ("obs1", "obs1_reset"):
        reset = file.tensor(f"{case}.reset")
        state = rssm.observe_step(carry, tokens[:, 0], action[:, 0], reset)
        record.values_of(file.at(case), case, deter=state.deter, logit=state.parameters)
    state = rssm.imagine_step(carry, imagined[:, 0])
    record.values_of(file.at("img1"), "img1", deter=state.deter, logit=state.parameters)
    _sequences(record, file, rssm, rows)
    _open_loop(record, file, rssm, carry, imagined)


def _sequences(record: Record, file: Arrays, rssm: RSSM, rows: list[Any]) -> None:
    sampled = _given(rssm, rows, file.tensor("seq_sampled.stoch"))
    _compare(record, file, "seq_sampled", rssm, sampled)
    with modes():
        states = rssm.observe(*rows)
    dyn, rep = _compare(record, file, "seq_mode", rssm, states)
    record.value("seq_mode.stoch", states.stoch, file["seq_mode.stoch"])
    last = states.stoch[:, -1]
    record.value("seq_mode.carry.stoch", last, file["seq_mode.carry.stoch"])
    ramp = torch.arange(1, states.stoch.shape[-1] + 1)
    total = DYN * dyn.mean() + REP * rep.mean() + STOCH_WEIGHT * (states.stoch * ramp).sum()
    record.value("seq_mode.total", total, file["seq_mode.total"])
    total.backward()
    record.block("seq_mode.grads", rssm, file.at("seq_mode.grads"), SCOPE)


def _given(rssm: RSSM, rows: list[Any], stoch: Tensor) -> State:
    """Observe a sequence with given samples."""
    carry, tokens, action, reset = rows
    states = []
    for t in range(tokens.shape[1]):
        state = rssm.observe_step(carry, tokens[:, t], action[:, t], reset[:, t])
        states.append(state._replace(stoch=stoch[:, t]))
        carry = states[-1].carry
    return stack(states)


def _compare(
    record: Record, file: Arrays, case: str, rssm: RSSM, states: State
) -> tuple[Tensor, Tensor]:
    arrays, logits = file.at(case), rssm.latent.prior(states.deter)
    prior, posterior = rssm.latent.distribution(logits), rssm.posterior(states)
    dyn, rep = balanced_kl(posterior, prior, free_nats=FREE_NATS)
    names = {"deter": states.deter, "logit": states.parameters, "prior_logit": logits}
    record.values_of(arrays, case, **names, dyn=dyn, rep=rep)
    for name, output in {"dyn_ent": prior, "rep_ent": posterior}.items():
        entropy = output.entropy().mean()
        record.value(f"{case}.metrics.{name}", entropy, arrays[f"metrics.{name}"])
    record.value(f"{case}.carry.deter", states.deter[:, -1], arrays["carry.deter"])
    return dyn, rep


def _open_loop(record: Record, file: Arrays, rssm: RSSM, carry: Carry, action: Tensor) -> None:
    with modes():
        states = rollout(rssm, carry, action)
    arrays = file.at("imag_mode")
    record.values_of(
        arrays, "imag_mode", deter=states.deter, stoch=states.stoch, logit=states.parameters
    )
    stoch, deter, logits = file.tensor("imag_sampled.stoch"), [], []
    for t in range(action.shape[1]):
        state = rssm.imagine_step(carry, action[:, t])
        deter.append(state.deter)
        logits.append(state.parameters)
        carry = Carry(state.deter, stoch[:, t])
    record.value("imag_sampled.deter", torch.stack(deter, 1), file["imag_sampled.deter"])
    record.value("imag_sampled.logit", torch.stack(logits, 1), file["imag_sampled.logit"])
