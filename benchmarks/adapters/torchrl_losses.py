"""torchrl's three losses of DreamerV3 on the agent that is joined in `torchrl_agent`."""

import torch
from tensordict import TensorDict
from torchrl.objectives import DreamerV3ActorLoss, DreamerV3ModelLoss, DreamerV3ValueLoss
from torchrl.objectives.utils import SoftUpdate, ValueEstimators

from benchmarks.adapters.torchrl_agent import BINS, Agent
from benchmarks.work import Work

GAMMA = 1 - 1 / 333
CLIP = 1000.0  # the norm of all gradients: adaptive clipping would be code of ours


class Learner:
    """The losses, an optimiser for each, and the slow copy of the critic."""

    def __init__(self, agent: Agent, work: Work) -> None:
        self.agent = agent
        self.model_loss = DreamerV3ModelLoss(
            agent.world_model,
            num_reward_bins=BINS,
            free_bits=1.0,
            kl_mode="separate",
            lambda_dynamic=1.0,
            lambda_representation=0.1,
            lambda_continue=1.0,
            unimix=0.01,
            continue_target_scale=GAMMA,
            global_average=False,
        )
        self.actor_loss = DreamerV3ActorLoss(
            agent.actor,
            agent.value,
            agent.env,
            continuation_model=agent.continuation,
            imagination_horizon=work.horizon,
            use_reinforce=True,
        )
        self.actor_loss.make_value_estimator(ValueEstimators.TDLambda, gamma=1.0, lmbda=0.95)
        self.value_loss = DreamerV3ValueLoss(
            agent.value,
            value_loss="two_hot",
            num_value_bins=BINS,
            actor_loss=self.actor_loss,
            slow_critic_regularization=1.0,
        )
        self.slow = SoftUpdate(self.value_loss, tau=0.02)
        learnt = (self.model_loss, agent.actor, self.value_loss)
        self.learnt = [list(module.parameters()) for module in learnt]
        # One call for all tensors, which is what torch has of the fastest kind on a CPU.
        settings = {"lr": 4e-5, "eps": 1e-20, "fused": True}
        self.optimizers = [torch.optim.Adam(own, **settings) for own in self.learnt]

    def step(self, rows: TensorDict) -> None:
        """One update of everything."""
        losses, seen = self.model_loss(rows)
        parts = [value.sum() for name, value in losses.items() if name.startswith("loss_")]
        self._learn(0, torch.stack(parts).sum())
        sizes = {"state": self.agent.stoch, "belief": self.agent.deter}
        start = {key: seen["next", key].detach().reshape(-1, n) for key, n in sizes.items()}
        count = start["state"].shape[0]
        losses, imagined = self.actor_loss(TensorDict(start, [count]))
        self._learn(1, losses["loss_actor"])
        losses, _ = self.value_loss(imagined.detach())
        self._learn(2, losses["loss_value"])
        self.slow.step()

    def _learn(self, which: int, loss: torch.Tensor) -> None:
        self.optimizers[which].zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learnt[which], CLIP, foreach=True)
        self.optimizers[which].step()
