"""sheeprl: DreamerV3 in the architecture of 2023, at widths with as many parameters; its replay."""

import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from lightning.fabric import Fabric
from omegaconf import OmegaConf

from benchmarks.data import batch, steps
from benchmarks.returns import LAM, Made, Numbers, tensors
from benchmarks.returns import measured as measured_returns
from benchmarks.rssm import functions
from benchmarks.stores import Store, in_chunks, measured
from benchmarks.torch_tools import flops, parameters, prepare, versions
from benchmarks.work import ACTIONS, IMAGE, Work
from benchmarks.worker import Timed

GROUPS = 32
WIDTHS = {
    "size1m": {"deter": 160, "units": 64, "depth": 8, "classes": 4},
    "size12m": {"deter": 896, "units": 256, "depth": 24, "classes": 16},
}


class Built(NamedTuple):
    """What its training function takes."""

    fabric: Any
    cfg: Any
    world_model: Any
    actor: Any
    critic: Any
    target: Any


def build(work: Work) -> Built:
    """Its agent, wrapped by Fabric as its training loop would."""
    prepare(work.threads)
    os.environ.setdefault("SHEEPRL_SEARCH_PATH", "")
    import sheeprl
    from sheeprl.algos.dreamer_v3.agent import build_agent
    from sheeprl.utils.utils import dotdict

    configs = Path(sheeprl.__file__).parent / "configs"
    with initialize_config_dir(str(configs), version_base="1.3"):
        cfg = compose("config", overrides=overrides(work))
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    cfg = dotdict(plain)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.launch()
    box = gymnasium.spaces.Box(0, 255, (IMAGE[2], *IMAGE[:2]), np.uint8)
    space = gymnasium.spaces.Dict({"rgb": box})
    parts = build_agent(fabric, (ACTIONS,), False, cfg, space)
    return Built(fabric, cfg, *parts[:4])


def overrides(work: Work) -> list[str]:
    """Its configuration at our sizes."""
    width = WIDTHS[work.size]
    world = "algo.world_model"
    return [
        "exp=dreamer_v3",
        "env=dummy",
        "algo=dreamer_v3_XS",
        "env.num_envs=1",
        "algo.cnn_keys.encoder=[rgb]",
        "algo.mlp_keys.encoder=[]",
        "algo.mlp_layers=1",
        "algo.actor.mlp_layers=3",
        "algo.critic.mlp_layers=3",
        f"algo.dense_units={width['units']}",
        f"algo.horizon={work.horizon}",
        f"algo.per_rank_batch_size={work.batch}",
        f"algo.per_rank_sequence_length={work.length}",
        f"{world}.discrete_size={width['classes']}",
        f"{world}.encoder.cnn_channels_multiplier={width['depth']}",
        f"{world}.recurrent_model.recurrent_state_size={width['deter']}",
        f"{world}.transition_model.hidden_size={width['units']}",
        f"{world}.representation_model.hidden_size={width['units']}",
    ]


def rows(work: Work) -> dict[str, torch.Tensor]:
    """A batch as its replay gives it: `time batch ...`, images by channel."""
    data = batch(work.batch, work.length)
    first = {key: torch.as_tensor(np.swapaxes(value, 0, 1).copy()) for key, value in data.items()}
    return {
        "rgb": first["image"].permute(0, 1, 4, 2, 3).contiguous(),
        "actions": first["action"],
        "rewards": first["reward"][..., None],
        "terminated": first["is_terminal"][..., None],
        "is_first": first["is_first"][..., None],
    }


def facts(work: Work) -> dict[str, Any]:
    """Versions and what differs."""
    widths = ", ".join(f"{name} {width}" for name, width in WIDTHS[work.size].items())
    note = f"architecture of 2023; {widths}; fused Adam"
    return {"versions": versions("sheeprl", "torch", "lightning"), "note": note}


def update(work: Work) -> Timed:
    """Its training function on one batch, and the slow copy of the critic."""
    built = build(work)
    from sheeprl.algos.dreamer_v3.dreamer_v3 import train
    from sheeprl.algos.dreamer_v3.utils import Moments

    algo, data = built.cfg.algo, rows(work)
    learners = (built.world_model, algo.world_model), (built.actor, algo.actor)
    optimizers = [
        built.fabric.setup_optimizers(
            torch.optim.Adam(
                module.parameters(), lr=cfg.optimizer.lr, eps=cfg.optimizer.eps, fused=True
            )
        )
        for module, cfg in (*learners, (built.critic, algo.critic))
    ]
    moments = Moments(0.99, 1.0, 0.05, 0.95)
    modules = (built.world_model, built.actor, built.critic, built.target)
    critic, slow = (
        [one.data for one in module.parameters()] for module in (built.critic.module, built.target)
    )

    def step() -> None:
        torch._foreach_lerp_(slow, critic, 0.02)  # its loop over parameters, in one call
        floats = {key: value.float() for key, value in data.items()}
        learnt = (*modules, *optimizers, floats, None, built.cfg, False, (ACTIONS,), moments)
        train(built.fabric, *learnt)

    step()
    return Timed(
        functions={"step": step},
        flops={"step": flops(step)},
        parameters=parameters(built.world_model, built.actor, built.critic),
        **facts(work),
    )


def rssm(work: Work) -> Timed:
    """Observe (its training function has that loop inline) and imagine with the policy."""
    built = build(work)
    model, width = built.world_model.rssm, WIDTHS[work.size]
    windows, length = work.observe
    stoch = GROUPS * width["classes"]
    embed = torch.randn(length, windows, built.world_model.encoder.cnn_output_dim)
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, (length, windows))]
    is_first = torch.zeros(length, windows, 1)
    is_first[0] = 1

    def observe() -> list[torch.Tensor]:
        begin = model.get_initial_states((1, windows))
        deter, latent = torch.zeros_like(begin[0]), torch.zeros_like(begin[1])
        projected = model.project_observations(embed)
        deters, latents, posts = [], [], []
        for t in range(length):
            row = slice(t, t + 1)
            deter, latent, post = model.dynamic(
                latent, deter, action[row], projected[row], is_first[row], begin, projected=True
            )
            for kept, one in ((deters, deter), (latents, latent), (posts, post)):
                kept.append(one)
        joined = [torch.cat(kept) for kept in (deters, latents, posts)]
        return [*joined, model.prior_logits(joined[0])]

    def imagine() -> None:
        latent = torch.zeros(1, work.imagine, stoch)
        deter = torch.zeros(1, work.imagine, width["deter"])
        states = torch.empty(work.horizon + 1, work.imagine, stoch + width["deter"])
        for t in range(work.horizon):
            chosen = torch.cat(built.actor(torch.cat((latent, deter), -1))[0], -1)
            latent, deter = model.imagination(latent, deter, chosen)
            latent = latent.view(1, -1, stoch)
            states[t + 1] = torch.cat((latent, deter), -1)

    cases = functions(observe, built.world_model.zero_grad, imagine)
    counted = {case: flops(function) for case, function in cases.items()}
    models = (model.recurrent_model, model.representation_model, model.transition_model)
    return Timed(functions=cases, flops=counted, parameters=parameters(*models), **facts(work))


def returns(work: Work) -> Timed:
    """Its λ-values, `time batch 1`."""
    prepare(work.threads)
    from sheeprl.algos.dreamer_v3.utils import compute_lambda_values

    def make(data: Numbers) -> Made:
        given = tensors(data, batch_first=False, last_axis=True)
        arguments = given["reward"], given["value"], given["discount"]
        return lambda: compute_lambda_values(*arguments, lmbda=LAM), lambda out: out[..., 0]

    return measured_returns(work, make, versions=versions("sheeprl", "torch"))


def replay(work: Work) -> Timed:
    """Its sequential buffers, one for each environment."""
    from sheeprl.data.buffers import EnvIndependentReplayBuffer, SequentialReplayBuffer

    prepare(work.threads)
    windows, length = work.sample
    streams = work.streams

    def columns(row: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {k: value if value.ndim > 2 else value[..., None] for k, value in row.items()}

    def make(capacity: int, image: bool) -> Store:
        buffer = EnvIndependentReplayBuffer(
            capacity // streams, n_envs=streams, buffer_cls=SequentialReplayBuffer
        )
        rows = [
            columns({key: value[None] for key, value in row.items()})
            for row in steps(streams, image=image)
        ]
        upcoming = itertools.cycle(rows)

        def add() -> None:
            buffer.add(next(upcoming), validate_args=False)

        def many(chunk: dict[str, np.ndarray]) -> None:
            buffer.add(columns(chunk), validate_args=False)

        def sample() -> Any:
            drawn = {"sequence_length": length, "n_samples": 1, "from_numpy": True}
            return buffer.sample_tensors(windows, **drawn)

        return Store(add, sample, in_chunks(streams, image, many))

    return measured(work, make, versions=versions("sheeprl", "torch"))
