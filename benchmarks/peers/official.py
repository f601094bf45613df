"""danijar/dreamerv3, the authors' code in JAX: a checkout by its path."""

import contextlib
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import batch, steps
from benchmarks.peers import use
from benchmarks.peers.jax_tools import flops, limit, version
from benchmarks.returns import GAMMA, LAM, Made, Numbers, padded
from benchmarks.returns import measured as measured_returns
from benchmarks.stores import Store, measured
from benchmarks.work import ACTIONS, IMAGE, Work
from benchmarks.worker import Timed

LEARNT = ("enc", "dyn", "dec", "rew", "con", "pol", "val")  # not the optimiser or the slow critic


def configuration(work: Work, repo: str) -> Any:
    """Its configuration file at our sizes."""
    use(repo)
    import elements
    import ruamel.yaml

    text = Path(repo, "dreamerv3", "configs.yaml").read_text()
    known = ruamel.yaml.YAML(typ="safe").load(text)
    return elements.Config(known["defaults"]).update(known[work.size])


def build(work: Work, repo: str) -> Any:
    """Its agent."""
    config = configuration(work, repo)
    import elements
    from dreamerv3.agent import Agent

    jax_part = {"platform": "cpu", "compute_dtype": "float32", "prealloc": False}
    jax_part |= {"profiler": False, "precompile": False}
    space = elements.Space
    flags = {key: space(bool) for key in ("is_first", "is_last", "is_terminal")}
    sizes = {"batch_size": work.batch, "batch_length": work.length, "report_length": 2}
    own = {"logdir": tempfile.mkdtemp(), "seed": 0, "replay_context": 1, **sizes}
    agent = config.agent.update({"report": False, "imag_length": work.horizon})
    return Agent(
        {"image": space(np.uint8, IMAGE), "reward": space(np.float32), **flags},
        {"action": space(np.int32, (), 0, ACTIONS)},
        elements.Config(**agent, **own, jax={**config.jax, **jax_part}, replica=0, replicas=1),
    )


def rows(agent: Any, work: Work) -> dict[str, Any]:
    """A batch of its own spaces, with the one row of context that gives the carry."""
    length = work.length + 1
    random = batch(work.batch, length)
    data = agent._zeros(agent.spaces, (work.batch, length))
    flags = {key: random[key] for key in ("reward", "is_first", "is_last", "is_terminal")}
    return {**data, **flags, "image": random["image"], "action": random["action_index"]}


def update(work: Work, repo: str) -> Timed:
    """Its compiled training function on one batch that is brought to the device each time."""
    limit(work.threads)
    with contextlib.redirect_stdout(sys.stderr):
        agent = build(work, repo)
    import jax
    from embodied.jax import internal

    data, state = rows(agent, work), {"carry": agent.init_train(work.batch), "count": 0}
    apart = [
        {key: value for key, value in agent.params.items() if (key in agent.policy_keys) == policy}
        for policy in (False, True)
    ]
    seed = agent._seeds(0, agent.train_mirrored)
    placed = internal.device_put(data, agent.train_sharded)
    with agent.train_mesh:
        traced = agent._train.trace(*apart, seed, state["carry"], placed)
        agent._train = traced.lower().compile()

    def step() -> None:
        given = internal.device_put(data, agent.train_sharded)
        seed = agent._seeds(state["count"], agent.train_mirrored)
        state["count"] += 1
        state["carry"], _, _ = agent.train(state["carry"], {**given, "seed": seed})
        jax.block_until_ready((state["carry"], agent.params))

    step()
    tops = {key: value for key, value in agent.params.items() if key.split("/")[0] in LEARNT}
    return Timed(
        functions={"step": step},
        flops={"step": flops(traced.jaxpr)},
        parameters=sum(int(value.size) for value in tops.values()),
        mode="jit",
        note="reference architecture; XLA, which counts the body of a loop once, finds "
        f"{xla(agent._train):.3g} GFLOP",
        versions={"dreamerv3": use(repo), **version()},
    )


def xla(compiled: Any) -> float:
    """GFLOP by XLA's cost analysis."""
    cost = compiled.cost_analysis()
    return (cost[0] if isinstance(cost, list | tuple) else cost)["flops"] / 1e9


def rssm(work: Work, repo: str) -> Timed:
    """Observe with the prior of every row, and imagine with the policy; both are scans."""
    limit(work.threads)
    config = configuration(work, repo)
    import elements
    import embodied.jax
    import jax
    import jax.numpy as jnp
    import ninjax
    from dreamerv3.rssm import RSSM
    from embodied.jax import nets

    nets.COMPUTE_DTYPE = jnp.float32
    jax.config.update("jax_platforms", "cpu")
    space = {"action": elements.Space(np.int32, (), 0, ACTIONS)}
    model = RSSM(space, **config.agent.dyn.rssm, name="dyn")
    kinds = {"action": "categorical"}
    policy = embodied.jax.MLPHead(space, kinds, **config.agent.policy, name="pol")
    random = np.random.default_rng(0)
    width = 16 * config.agent.enc.simple.depth * config.agent.enc.simple.mults[-1]
    embed = jnp.asarray(random.standard_normal((*work.observe, width)), jnp.float32)
    action = {"action": jnp.asarray(random.integers(0, ACTIONS, work.observe), jnp.int32)}
    first = jnp.zeros(work.observe, bool).at[:, 0].set(True)

    def observed() -> Any:
        carry = model.initial(work.observe[0])
        _, _, feature = model.observe(carry, embed, action, first, training=True)
        parts = [*feature.values(), model._prior(feature["deter"])]
        return sum(part.sum() for part in parts)

    def choose(carry: Any) -> Any:
        flat = carry["stoch"].reshape((*carry["stoch"].shape[:-2], -1))
        chosen = policy(jnp.concatenate([carry["deter"], flat], -1), 1)
        return jax.tree.map(lambda one: one.sample(ninjax.seed()), chosen)

    def imagined() -> Any:
        carry = model.initial(work.imagine)
        _, feature, _ = model.imagine(carry, choose, work.horizon, training=True)
        return feature["deter"].sum() + feature["stoch"].sum()

    cases = {"observe": (observed, False), "observe_backward": (observed, True)}
    cases["imagine"] = (imagined, False)
    made = {case: compiled(*one) for case, one in cases.items()}
    return Timed(
        functions={case: function for case, (function, _, _) in made.items()},
        flops={case: count for case, (_, count, _) in made.items()},
        parameters=made["observe"][2],
        mode="jit",
        versions={"dreamerv3": use(repo), **version()},
    )


def compiled(function: Any, backward: bool) -> tuple[Any, float, int]:
    """A compiled function of fixed parameters, its FLOPs, and how many parameters it has."""
    import jax
    import ninjax

    parameters = ninjax.init(function)({}, seed=0)
    pure = ninjax.pure(function)

    def value(given: Any, key: Any) -> Any:
        return pure(given, seed=key)[1]

    key = jax.random.PRNGKey(0)
    traced = jax.jit(jax.grad(value) if backward else value).trace(parameters, key)
    fast = traced.lower().compile()
    count = sum(int(one.size) for one in parameters.values())
    return (lambda: jax.block_until_ready(fast(parameters, key))), flops(traced.jaxpr), count


def returns(work: Work, repo: str) -> Timed:
    """Its λ-return, compiled."""
    limit(work.threads)
    commit = use(repo)
    import jax
    from dreamerv3.agent import lambda_return

    compiled = jax.jit(lambda *given: lambda_return(*given, GAMMA, LAM))

    def make(data: Numbers) -> Made:
        given = [jax.numpy.asarray(one) for one in padded(data)]
        return lambda: jax.block_until_ready(compiled(*given)), lambda out: out.T

    return measured_returns(work, make, mode="jit", versions={"dreamerv3": commit, **version()})


def replay(work: Work, repo: str) -> Timed:
    """Its replay; samples are NumPy arrays."""
    commit = use(repo)
    from embodied.core.replay import Replay

    windows, length = work.sample

    def make(capacity: int, image: bool) -> Store:
        replay = Replay(
            length=length, capacity=capacity, directory=None, chunksize=1024, online=False, seed=0
        )
        upcoming = itertools.cycle(steps(work.streams, image=image))

        def add() -> None:
            row = next(upcoming)
            for stream in range(work.streams):
                replay.add({key: value[stream] for key, value in row.items()}, worker=stream)

        return Store(add, lambda: replay.sample(windows))

    note = "samples are NumPy arrays"
    return measured(work, make, note=note, versions={"dreamerv3": commit})
