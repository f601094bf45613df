"""Promises of the losses and the update of an agent written like the recipes."""

import copy
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from worldblocks.distributions import MSE
from worldblocks.replay import Batch
from worldblocks.spaces import Continuous, Discrete, action_size
from worldblocks.testing.agent.scripted import PLACE, Place, expected_losses, scripted_agent
from worldblocks.testing.episodes import Trajectory, trajectories
from worldblocks.testing.promise import Names, Promises, Report, for_all
from worldblocks.testing.promise.compare import expect, expect_equal, gradients, seeded, weighted

promise = Promises()
OBSERVATION = {"vector": Continuous((5,))}
ACTIONS = {"jump": Discrete(3)}
EPISODES = Trajectory((True, False), ("..T.L.", "T..A.L"), 0)


class Case(NamedTuple):
    """The functions of a recipe and a configuration."""

    recipe: Any
    cfg: Any

    def scripted(self, trajectory: Trajectory) -> tuple[Any, Place, Any]:
        """A scripted agent, its posterior states, and the other fields of a batch."""
        post = Place(trajectory.normal(PLACE).requires_grad_())
        batch = SimpleNamespace(
            reward=trajectory.normal(key=1),
            is_last=trajectory.is_last,
            is_terminal=trajectory.is_terminal,
        )
        return scripted_agent(), post, batch

    def losses(self, agent: Any, post: Any, batch: Any) -> dict[str, Tensor]:
        """The losses of actor and critic."""
        return self.recipe.actor_critic_loss(agent, post, batch, self.cfg)[0]

    def real(self) -> tuple[Any, Any, Batch]:
        """A small agent of the recipe, its optimiser and a batch."""
        with seeded():
            agent, optimizer = self.recipe.build(self.cfg, OBSERVATION, ACTIONS)
        trajectory, first = EPISODES, EPISODES.is_first
        action = trajectory.normal(action_size(ACTIONS), key=3)
        batch = Batch(
            obs={"vector": trajectory.normal(5, key=2)},
            prev_action=torch.where(first[..., None], 0.0, action),
            reward=trajectory.normal(key=1),
            is_first=first,
            is_last=trajectory.is_last,
            is_terminal=trajectory.is_terminal,
            carry=agent.rssm.initial(trajectory.batch),
            row=None,
        )
        return agent, optimizer, batch


def some() -> Any:
    """Trajectories with at least two rows."""
    return trajectories(time=(2, 6), batch=(1, 3), ends=".TL")


def compare(case: Case, name: str) -> None:
    """Compare a loss of the scripted agent with its definition, element by element."""

    def body(trajectory: Trajectory) -> None:
        agent, post, batch = case.scripted(trajectory)
        expected = getattr(expected_losses(agent, post, batch, case.cfg), name)
        ours = case.losses(agent, post, batch)[name]
        expect(ours.shape == expected.shape, f"{name} has shape {tuple(ours.shape)}")
        expect_equal(ours, expected, f"the loss {name!r} differs from its definition")

    for_all(some(), body, share=0.5, also=[EPISODES])


@promise(
    "actor-loss",
    "The actor's loss is -weight (log π(a) (return - value) / scale + entropy bonus).",
    "rows of imagination: a[t] is chosen at row t; its return takes rewards and values from t + 1 "
    "on; the weight of row t is the product of continues 0 … t; the scale is updated first",
)
def actor_loss(case: Case) -> None:
    compare(case, "actor")


@promise(
    "critic-loss",
    "The critic's loss is weight (nll of the return + nll of the slow critic) of the same row.",
    "rows of imagination, and γ, which the continue head includes",
)
def critic_loss(case: Case) -> None:
    compare(case, "critic")


@promise(
    "replayed-critic-loss",
    "On replayed rows the return stops at terminals and bootstraps at time limits; last rows have "
    "weight 0.",
    "is_terminal sets the discount, is_last sets λ and the weight; destination rows",
)
def replayed_critic_loss(case: Case) -> None:
    compare(case, "replay_critic")


@promise(
    "imagination-trains-heads-alone",
    "The losses on imagined rows train policy and critic alone, not the world model.",
    "no_grad() around imagination, detach() of its first state and its features",
)
def imagination_trains_heads_alone(case: Case) -> None:
    agent, post, batch = case.scripted(EPISODES)
    losses = case.losses(agent, post, batch)
    world = {"the dynamics": agent.rssm.force, "the reward head": agent.reward.slope}
    world |= {"the continue head": agent.cont.slope, "the posterior states": post.x}
    world |= {"the slow critic": agent.slow_value.slope}
    for name in ("actor", "critic"):
        own = agent.actor.weight if name == "actor" else agent.value.slope
        other = agent.value.slope if name == "actor" else agent.actor.weight
        wanted = [own, other, *world.values()]
        mine, others, *found = gradients(weighted([losses[name]]), wanted)
        expect(bool(mine.ne(0).any()), f"the loss {name!r} does not train its head")
        expect(not others.ne(0).any(), f"the loss {name!r} trains the other head")
        reached = [key for key, g in zip(world, found, strict=True) if g.ne(0).any()]
        expect(not reached, f"the loss {name!r} trains {', '.join(reached)}")


@promise(
    "replayed-rows-train-the-world",
    "The critic's loss on replayed rows reaches the posterior states.",
    "detach() of the features",
)
def replayed_rows_train_the_world(case: Case) -> None:
    agent, post, batch = case.scripted(EPISODES)
    loss = weighted([case.losses(agent, post, batch)["replay_critic"]])
    found, slow = gradients(loss, [post.x, agent.slow_value.slope])
    expect(bool(found.ne(0).any()), "the loss does not reach the posterior states")
    expect(not slow.ne(0).any(), "the loss trains the slow critic")


class Constant(torch.nn.Module):
    """A head with a constant prediction."""

    def forward(self, x: Tensor) -> MSE:
        """0.25 for each row."""
        return MSE(torch.full(x.shape[:-1], 0.25))


@promise(
    "world-targets",
    "The target of the reward head is the reward; of the continue head, γ (1 - is_terminal).",
    "targets: a time limit continues; the row of each target; γ is included",
)
def world_targets(case: Case) -> None:
    agent, _, batch = case.real()
    agent.reward, agent.cont = Constant(), Constant()
    with seeded():
        _, losses, _ = case.recipe.world_model_loss(agent, batch, case.cfg)
    alive = case.cfg.gamma * (1 - batch.is_terminal.float())
    for name, target in (("reward", batch.reward), ("cont", alive)):
        expected = (0.25 - target) ** 2
        what = f"the loss {name!r} has another target"
        expect_equal(losses[name], expected, what, example=EPISODES)


def updated(case: Case, gradient: float) -> tuple[Any, Any]:
    """An agent before and after an update; its old gradients are filled with a number."""
    agent, optimizer, batch = case.real()
    for group in optimizer.param_groups:
        group["warmup"] = 0
    for parameter in agent.parameters():
        if parameter.requires_grad and gradient:
            parameter.grad = torch.full_like(parameter, gradient)
    before = copy.deepcopy(agent)
    with seeded():
        case.recipe.update(agent, optimizer, batch, case.cfg)
    return before, agent


@promise(
    "one-update-each",
    "An update moves the slow critic once, towards the updated critic.",
    "calls of `slow_value.update`",
)
def one_update_each(case: Case) -> None:
    before, after = updated(case, 0.0)
    slow, fast = (parameters_to_vector(x.parameters()) for x in (before.slow_value, after.value))
    expected = torch.lerp(slow, fast, case.cfg.slow_rate)
    ours = parameters_to_vector(after.slow_value.parameters())
    expect(not torch.equal(slow, fast), "an update did not move the critic")
    expect_equal(ours, expected, "the slow critic did not move once by its rate", allowed=1e-6)


@promise(
    "gradients-are-cleared",
    "An update does not depend on old gradients.",
    "optimizer.zero_grad(), before backward()",
)
def gradients_are_cleared(case: Case) -> None:
    ours, expected = (parameters_to_vector(updated(case, g)[1].parameters()) for g in (7.0, 0.0))
    expect_equal(ours, expected, "old gradients changed an update", allowed=1e-6)


@promise.check
def check_agent(recipe: Any, *, cfg: Any, only: Names = (), skip: Names = ()) -> Report:
    """Test the losses and the update of DreamerV3, or a variant, written like our recipes.

    Args:
        recipe: a module, or anything with the functions `world_model_loss`, `actor_critic_loss`,
            `update` and `build` of the DreamerV3 recipes; its actor learns by REINFORCE.
        cfg: a small configuration, on the CPU and in float32.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(recipe, cfg), recipe, only, skip)
