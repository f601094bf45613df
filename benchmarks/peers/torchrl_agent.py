"""An agent for images and discrete actions from torchrl's public parts, and its losses.

torchrl has DreamerV3 for vectors and continuous actions. A user who wants images would take its
convolutional encoder and decoder, and keep the rest: block-GRU RSSM, heads, imagination.
"""

import torch
from tensordict import TensorDict
from tensordict.nn import (
    InteractionType,
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictSequential,
)
from torchrl.data import Composite, OneHot, Unbounded
from torchrl.envs.model_based.dreamer import DreamerEnv
from torchrl.modules import (
    DreamerV3MLP,
    ObsDecoder,
    ObsEncoder,
    OneHotCategorical,
    SymExpTwoHot,
    WorldModelWrapper,
)
from torchrl.modules.models.dreamer_v3 import RSSMPosteriorV3, RSSMPriorV3, RSSMRolloutV3
from torchrl.objectives import DreamerV3ActorLoss, DreamerV3ModelLoss, DreamerV3ValueLoss
from torchrl.objectives.utils import SoftUpdate, ValueEstimators

from benchmarks.work import ACTIONS, IMAGE, Work

GROUPS, BLOCKS, BINS = 32, 8, 255
GAMMA = 1 - 1 / 333
CLIP = 1000.0  # the norm of all gradients: adaptive clipping would be code of ours
FEATURE = ["state", "belief"]
NEXT = [("next", "state"), ("next", "belief")]


class Agent:
    """Its modules, by the names that the losses and the benchmarks use.

    Attributes:
        stoch, deter, embed: widths.
        rollout: posterior and prior of a sequence of embeddings.
        world_model: encoder, rollout, decoder, reward and continuation.
        continuation: probability that an imagined state is alive.
        actor, value: heads on a state.
        env: imagination.
    """

    def __init__(self, work: Work) -> None:
        sizes = work.sizes
        self.stoch, self.deter = GROUPS * sizes["classes"], sizes["deter"]
        self.feature, self.units = self.stoch + self.deter, sizes["units"]
        encoder = ObsEncoder(channels=sizes["depth"], num_layers=4)
        with torch.no_grad():
            self.embed = encoder(torch.zeros(2, IMAGE[2], *IMAGE[:2])).shape[-1]
        prior, posterior = self._dynamics(sizes)
        self.rollout = RSSMRolloutV3(
            TensorDictModule(
                prior,
                in_keys=[*FEATURE, "action"],
                out_keys=[("next", "prior_logits"), *NEXT],
            ),
            TensorDictModule(
                posterior,
                in_keys=[("next", "belief"), ("next", "encoded_latents")],
                out_keys=[("next", "posterior_logits"), ("next", "state")],
            ),
        )
        self.reward = DreamerV3MLP(self.feature, BINS, depth=1, num_cells=self.units, outscale=0.0)
        self.alive = DreamerV3MLP(self.feature, 1, depth=1, num_cells=self.units)
        self.world_model = self._world_model(encoder, self._decoder(sizes["depth"]))
        self.continuation = TensorDictSequential(
            TensorDictModule(self.alive, in_keys=FEATURE, out_keys=["alive_logit"]),
            TensorDictModule(
                torch.nn.Sigmoid(), in_keys=["alive_logit"], out_keys=["continuation"]
            ),
        )
        self.actor, self.value = self._actor(), self._value()
        self.env = self._env(prior)

    def _dynamics(self, sizes: dict[str, int]) -> tuple[RSSMPriorV3, RSSMPosteriorV3]:
        same = {"hidden_dim": sizes["hidden"], "num_categoricals": GROUPS, "unimix": 0.01}
        same |= {"num_classes": sizes["classes"], "rnn_hidden_dim": self.deter, "num_layers": 1}
        prior = RSSMPriorV3(
            action_shape=torch.Size([ACTIONS]),
            action_dim=ACTIONS,
            recurrent_model="block_gru",
            num_blocks=BLOCKS,
            prior_num_layers=2,
            **same,
        )
        return prior, RSSMPosteriorV3(obs_embed_dim=self.embed, use_rms_norm=True, **same)

    def _decoder(self, depth: int) -> ObsDecoder:
        kernels = [5, 5, 6, 6]
        decoder = ObsDecoder(
            channels=depth, num_layers=4, kernel_sizes=kernels, latent_dim=self.feature
        )
        with torch.no_grad():  # it has lazy layers
            decoder(torch.zeros(2, self.stoch), torch.zeros(2, self.deter))
        return decoder

    def _world_model(self, encoder: ObsEncoder, decoder: ObsDecoder) -> TensorDictSequential:
        pixels, embedded = [("next", "pixels")], [("next", "encoded_latents")]
        logits, reward = [("next", "reward_logits")], [("next", "reward")]
        return TensorDictSequential(
            TensorDictModule(encoder, in_keys=pixels, out_keys=embedded),
            self.rollout,
            TensorDictModule(decoder, in_keys=NEXT, out_keys=[("next", "reco_pixels")]),
            TensorDictModule(self.reward, in_keys=NEXT, out_keys=logits),
            TensorDictModule(SymExpTwoHot(BINS), in_keys=logits, out_keys=reward),
            TensorDictModule(self.alive, in_keys=NEXT, out_keys=[("next", "continue_pred")]),
        )

    def _actor(self) -> ProbabilisticTensorDictSequential:
        head = DreamerV3MLP(self.feature, ACTIONS, depth=3, num_cells=self.units, outscale=0.01)
        return ProbabilisticTensorDictSequential(
            TensorDictModule(head, in_keys=FEATURE, out_keys=["logits"]),
            ProbabilisticTensorDictModule(
                in_keys=["logits"],
                out_keys=["action"],
                default_interaction_type=InteractionType.RANDOM,
                distribution_class=OneHotCategorical,
                return_log_prob=True,
                log_prob_key="action_log_prob",
            ),
        )

    def _value(self) -> TensorDictSequential:
        head = DreamerV3MLP(self.feature, BINS, depth=3, num_cells=self.units, outscale=0.0)
        logits = ["state_value_logits"]
        return TensorDictSequential(
            TensorDictModule(head, in_keys=FEATURE, out_keys=logits),
            TensorDictModule(SymExpTwoHot(BINS), in_keys=logits, out_keys=["state_value"]),
        )

    def _env(self, prior: RSSMPriorV3) -> DreamerEnv:
        model = TensorDictModule(prior, in_keys=[*FEATURE, "action"], out_keys=["_", *FEATURE])
        reward = TensorDictSequential(
            TensorDictModule(self.reward, in_keys=FEATURE, out_keys=["reward_logits"]),
            TensorDictModule(SymExpTwoHot(BINS), in_keys=["reward_logits"], out_keys=["reward"]),
        )
        env = DreamerEnv(
            world_model=WorldModelWrapper(TensorDictSequential(model), reward),
            prior_shape=torch.Size([self.stoch]),
            belief_shape=torch.Size([self.deter]),
            device="cpu",
        )
        env.observation_spec = Composite(state=Unbounded(self.stoch), belief=Unbounded(self.deter))
        env.state_spec = env.observation_spec.clone()
        env.action_spec = OneHot(ACTIONS, dtype=torch.float32)
        env.reward_spec = Unbounded((1,))
        return env


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
        # One call for all tensors: the fastest form that torch has on a CPU.
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
