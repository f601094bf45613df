"""A second set of arrays with other sizes, in the names and layouts of the recorded one.

It is not from the official code: λ-returns, replay and the losses of j come from slow loops, the
blocks of d, f and k from our own code. It shows that the command reads every size from the arrays.
"""

from collections import deque

import numpy as np
import torch

from parity import agent as whole
from parity.recipe import CONSTANTS, SCOPES, SLOW, Setup
from worldblocks.distributions import modes
from worldblocks.interop import jax_names
from worldblocks.layers import Conv2d, Linear
from worldblocks.losses import balanced_kl
from worldblocks.replay import Batch
from worldblocks.rssm import Carry, dreamer_rssm, rollout
from worldblocks.spaces import Continuous, Discrete, Image, action_size, one_hot_action


def official(block, scope, of=lambda parameter: parameter):
    """`of(parameter)` for every parameter of a block, in official names and layouts."""
    arrays = {}
    for ours, theirs in jax_names(block).items():
        path, _, leaf = ours.rpartition(".")
        module, x = block.get_submodule(path), of(block.get_parameter(ours))
        if leaf == "weight" and isinstance(module, Conv2d):
            x = x.permute(2, 3, 1, 0)
        elif leaf == "weight" and isinstance(module, Linear):
            x = x.T
        arrays[f"{scope}/{theirs}"] = x.detach().numpy().copy()
    return arrays


def below(path, arrays):
    """The same arrays under a path."""
    out = {}
    for name, x in arrays.items():
        x = x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        out[f"{path}.{name}"] = x.copy()
    return out


def jitter(block):
    """Add noise to all parameters, so that a forgotten bias or scale shows."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


def lambda_returns(rng):
    """Group b, by a loop over rows."""
    arrays, (batch, time) = {}, (2, 7)
    for case, lam in {"slow": 0.7, "fast": 0.2}.items():
        last, term = (rng.random((batch, time)) < 0.3 for _ in range(2))
        reward, boot = rng.normal(size=(2, batch, time))
        ret, carried = np.zeros((batch, time - 1)), boot[:, -1]
        for t in reversed(range(time - 1)):
            live, cont = (1 - term[:, t + 1]) * 0.9, (1 - last[:, t + 1]) * lam
            carried = reward[:, t + 1] + live * ((1 - cont) * boot[:, t + 1] + cont * carried)
            ret[:, t] = carried
        arrays |= below(case, {"last": last, "term": term, "disc": 0.9, "lam": lam})
        named = {"rew": reward, "boot": boot, "val": boot, "ret": ret}
        arrays |= below(case, {name: x.astype(np.float32) for name, x in named.items()})
    return arrays


SIZES = {"deter": 18, "hidden": 7, "groups": 2, "classes": 5, "blocks": 3}


def dynamics():
    """Groups d and f with two action keys, one of them several categoricals."""
    spaces = {"arm": Continuous((2,)), "keys": Discrete(3, (2,))}
    rssm = dreamer_rssm(embed_dim=11, action_dim=action_size(spaces), prior_layers=3, **SIZES)
    jitter(rssm)
    batch, time, steps = 2, 4, 6
    actions = {
        f"{kind}action": {
            "arm": 2 * torch.randn(batch, length, 2),
            "keys": torch.randint(3, (batch, length, 2)),
        }
        for kind, length in (("", time), ("imag_", steps))
    }
    flat = {name: one_hot_action(spaces, values) for name, values in actions.items()}
    index = torch.randint(5, (batch, 2))
    carry = Carry(torch.randn(batch, 18), torch.nn.functional.one_hot(index, 5).float())
    tokens, reset = torch.randn(batch, time, 11), torch.rand(batch, time) < 0.3
    file = below("params", official(rssm, "dyn"))
    file |= below("inputs", {"tokens": tokens, "reset": reset})
    file |= below("inputs.carry", {"deter": carry.memory, "stoch": carry.stoch})
    for name, values in actions.items():
        file |= below(f"inputs.{name}", values)
    for case, first in {"obs1": reset[:, 0], "obs1_reset": ~reset[:, 0]}.items():
        state = rssm.observe_step(carry, tokens[:, 0], flat["action"][:, 0], first)
        file |= below(case, {"reset": first, "deter": state.deter, "logit": state.parameters})
    state = rssm.imagine_step(carry, flat["imag_action"][:, 0])
    file |= below("img1", {"deter": state.deter, "logit": state.parameters})
    with modes():
        states = rssm.observe(carry, tokens, flat["action"], reset)
        dream = rollout(rssm, carry, flat["imag_action"])
    file |= _sequence(rssm, states)
    for case in ("imag_mode", "imag_sampled"):  # modes serve as the given samples
        named = {"deter": dream.deter, "stoch": dream.stoch, "logit": dream.parameters}
        file |= below(case, named)
    return file, _core(rssm.core, carry, flat["action"][:, 0])


def _sequence(rssm, states):
    logits, posterior = rssm.latent.prior(states.deter), rssm.posterior(states)
    prior = rssm.latent.distribution(logits)
    dyn, rep = balanced_kl(posterior, prior, free_nats=1.0)
    entropies = {
        f"metrics.{name}": output.entropy().mean()
        for name, output in {"dyn_ent": prior, "rep_ent": posterior}.items()
    }
    named = {"deter": states.deter, "stoch": states.stoch, "logit": states.parameters}
    named |= {"prior_logit": logits, "dyn": dyn, "rep": rep, **entropies}
    named |= {"carry.deter": states.deter[:, -1], "carry.stoch": states.stoch[:, -1]}
    total = dyn.mean() + 0.1 * rep.mean() + 0.01 * (states.stoch * torch.arange(1, 6)).sum()
    total.backward()
    file = below("seq_sampled", named) | below("seq_mode", {**named, "total": total})
    return file | below("seq_mode.grads", official(rssm, "dyn", lambda p: p.grad))


def _core(core, carry, action):
    core.zero_grad()
    inputs = [x.clone().requires_grad_() for x in (*carry, action)]
    out, _ = core.step(inputs[0], inputs[1].flatten(1), core.project_action(inputs[2]))
    out.square().sum().backward()
    file = below("params", official(core, "dyn"))
    file |= below("grads", official(core, "dyn", lambda p: p.grad))
    names = ("deter", "stoch", "action_embed")
    file |= {name: x.detach().numpy() for name, x in zip(names, inputs, strict=True)}
    grads = zip(("deter", "stoch", "action"), inputs, strict=True)
    return {**file, "out": out.detach().numpy(), **{f"grad_{k}": x.grad.numpy() for k, x in grads}}


def replayed_loss(rng):
    """Group j on replayed rows, in float64 and by loops, with another number of bins."""
    batch, time, count = 3, 6, 13
    half = -np.expm1(-np.linspace(-20, 0, (count + 1) // 2))
    bins = np.concatenate([half, -half[::-1][1:]])
    last, term = (rng.random((batch, time)) < 0.3 for _ in range(2))
    reward, boot = rng.normal(size=(2, batch, time)) * 10
    logits, slow = rng.normal(size=(2, batch, time, count))
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    slow_mean = (np.exp(slow) / np.exp(slow).sum(-1, keepdims=True)) @ bins
    ret, carried = np.zeros((batch, time - 1)), boot[:, -1]
    for t in reversed(range(time - 1)):
        live, cont = (1 - term[:, t + 1]) * (1 - 1 / 50), (1 - last[:, t + 1]) * 0.8
        carried = reward[:, t + 1] + live * ((1 - cont) * boot[:, t + 1] + cont * carried)
        ret[:, t] = carried
    targets = (ret, slow_mean[:, :-1])
    weights = np.stack([[[_two_hot(x, bins) for x in row] for row in y] for y in targets])
    weights[1] *= 0.5  # slowreg
    live = (1 - last)[:, :-1]
    loss = live * -(weights.sum(0) * log_probs[:, :-1]).sum(-1)
    grad = np.zeros_like(logits)
    probs = np.exp(log_probs[:, :-1])
    grad[:, :-1] = (probs * weights.sum((0, -1))[..., None] - weights.sum(0)) * live[..., None]
    arrays = {"inputs.last": last, "inputs.term": term}
    floats = {"inputs.rew": reward, "inputs.boot": boot, "inputs.value_logits": logits}
    floats |= {"inputs.slow_logits": slow, "outs.ret": ret, "losses.repval": loss}
    floats |= {"val": np.exp(log_probs) @ bins, "slowval": slow_mean}
    floats["grad_value_logits"] = grad / loss.size
    arrays |= {name: x.astype(np.float32) for name, x in floats.items()}
    config = {"slowreg": 0.5, "slowtar": False, "horizon": 50, "lam": 0.8}
    arrays |= below("config", config)
    return {"bins": bins.astype(np.float32), **below("other", arrays)}


def _two_hot(x, bins):
    above = int(np.clip(np.searchsorted(bins, x), 1, len(bins) - 1))
    weight = np.clip((x - bins[above - 1]) / (bins[above] - bins[above - 1]), 0, 1)
    out = np.zeros(len(bins))
    out[above - 1], out[above] = 1 - weight, weight
    return out


def replay(rng):
    """Group l by lists: one worker after the other, items evicted first in, first out."""
    length, capacity, workers, steps = 4, 22, 3, 26
    first, last = rng.random((2, workers, steps)) < 0.15
    items, queue, lengths, queued = deque(), [], [], []
    for t in range(steps):
        for w in range(workers):
            start = t - length + 1
            if start >= 0:
                items.append((w, start))
            if start >= 1 and (start - 1) % length == 0:
                queue.append((w, start))
            if len(items) > capacity:
                items.popleft()
            lengths.append(len(items))
            queued.append(len(queue))
    keep = sorted(items)
    kept = [item for item in queue if item in items]
    file = {"length": length, "capacity": capacity, "workers": workers, "steps": steps}
    file |= {"len_after_each_add": lengths, "queue_after_each_add": queued}
    file |= {"available_starts": keep, "in_first": first, "in_last": last}
    file |= below("online", _windows([*kept, keep[3]], length, first, last))
    file |= below("uniform", _windows([keep[i] for i in (0, 7, 5)], length, first, last))
    oldest = {w: min(s for v, s in keep if v == w) for w in range(workers)}
    keys = [(w, t) for w in range(workers) for t in range(oldest[w], steps)]
    window = (1, oldest[1] - 2)
    written = [w == 1 and t < window[1] + length for w, t in keys]
    lat = [[-1.0] if new else [w * 100.0 + t] for (w, t), new in zip(keys, written, strict=True)]
    file |= below("writeback", {"window": window, "keys": keys, "lat": np.float32(lat)})
    file |= below("ratio_other", {"ratio": 0.4, "steps": [7, 8, 12, 13], "updates": [1, 0, 2, 0]})
    return {name: np.asarray(x) for name, x in file.items()}


def _windows(starts, length, first, last):
    w = np.array([[w] * length for w, _ in starts])
    t = np.array([range(s, s + length) for _, s in starts])
    is_first, is_last = first[w, t], last[w, t]
    is_first[:, 0] = True
    is_last[:, :-1] |= is_first[:, 1:]
    return {"w": w, "t": t, "is_first": is_first, "is_last": is_last}


def whole_agent(recipe):
    """Group k with another size, image and horizon, from the recipe itself."""
    (batch, time), spaces = (2, 4), {"image": Image(48, 48, 1), "speed": Continuous((3,))}
    actions = {"action": Discrete(4)}
    sizes = {"units": 10, "deter": 24, "hidden": 9, "groups": 3, "classes": 5, "depth": 2}
    cfg = recipe.Config(**CONSTANTS, **sizes, blocks=4, horizon=7)
    agent, optimizer = recipe.build(cfg, spaces, actions)
    jitter(agent)
    rows, scopes = (batch, time + 1), (*SCOPES.items(), SLOW)
    data = {
        "image": torch.randint(256, (*rows, 48, 48, 1), dtype=torch.uint8),
        "speed": torch.randn(*rows, 3),
        "action": torch.randint(4, rows),
        "reward": torch.randn(rows),
        **{f"is_{x}": torch.rand(rows) < 0.3 for x in ("first", "last", "terminal")},
        "dyn/deter": torch.randn(*rows, 24),
        "dyn/stoch": torch.nn.functional.one_hot(torch.randint(5, (*rows, 3)), 5).float(),
    }
    previous = data["action"][:, :-1]
    inside = {key: x[:, 1:] for key, x in data.items()}
    found = Batch(
        obs={key: inside[key] for key in spaces},
        prev_action=one_hot_action(actions, {"action": previous}),
        carry=Carry(data["dyn/deter"][:, 0], data["dyn/stoch"][:, 0]),
        row=torch.zeros(batch, time, dtype=torch.int64),
        **{key: inside[key] for key in ("reward", "is_first", "is_last", "is_terminal")},
    )
    setup = Setup(recipe, agent, optimizer, found, cfg, spaces)
    file = below("data", data) | {"prevact.action": previous.numpy()}
    file |= _weights("start_state", agent, scopes)
    with modes():
        file |= _evaluated(setup)
        file |= _trained(setup, scopes)
    return file


def _weights(path, agent, scopes, of=lambda parameter: parameter):
    arrays = {}
    for scope, module in scopes:
        arrays |= official(agent.get_submodule(module), scope, of)
    return below(path, arrays)


def _evaluated(setup):
    agent = setup.agent
    agent.return_scale.eval()
    post, weighted, losses = whole.evaluate(setup, agent)
    total = sum(loss.mean() for loss in weighted.values())
    file = {"tokens": agent.encoder(setup.batch.obs).detach().numpy(), "total": total.item()}
    file |= below("repfeat", {"deter": post.deter, "logit": post.parameters, "stoch": post.stoch})
    file |= below("losses", losses)
    file |= below("metrics", whole.metrics(setup, agent, post, losses))
    total.backward()
    file |= _weights("grads", agent, SCOPES.items(), lambda p: p.grad)
    for name, loss in whole.evaluate(setup, agent)[2].items():
        agent.zero_grad()
        loss.mean().backward(retain_graph=True)
        for scope, module in SCOPES.items():
            parameters = agent.get_submodule(module).parameters()
            norms = [p.grad.norm() for p in parameters if p.grad is not None]
            norm = torch.stack([*norms, torch.zeros(())]).norm()
            file[f"gradnorms.{name}.{scope}"] = norm.numpy()
    agent.zero_grad()
    agent.return_scale.train()
    return {name: np.asarray(x) for name, x in file.items()}


def _trained(setup, scopes):
    agent, file = setup.agent, {}
    start = {name: p.detach().clone() for name, p in agent.named_parameters()}
    for step in ("step1", "step2", "step3"):
        post, _ = setup.recipe.update(agent, setup.optimizer, setup.batch, setup.cfg)
        latents = {"dyn/deter": post.deter, "dyn/stoch": post.stoch}
        file |= below(f"{step}.replay", latents)
        low, high = agent.return_scale.range
        scale = {"retnorm/lo/value": low, "retnorm/hi/value": high}
        file |= below(f"{step}.retnorm", scale)
    file |= _weights("final_params", agent, scopes)
    file["final_params.slowval_count/value"] = np.array(3)
    names = {id(p): name for name, p in agent.named_parameters()}
    return file | _weights("step3.deltas", agent, scopes, lambda p: p - start[names[id(p)]])
