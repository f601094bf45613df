"""Faults of a recipe's losses: its text with other words in one place."""

from pathlib import Path

from worldblocks.run import load_recipe

from .mutant import changed_module, mutant

RECIPE = Path(__file__).parents[2] / "recipes" / "dreamerv3_gym.py"
recipe = load_recipe(RECIPE)

RETURNS = "wb.returns.lambda_return(reward[:, 1:], cont[:, 1:], boot[:, 1:], cfg.lam)"
REPLAYED = "wb.returns.lambda_return(batch.reward[:, 1:], live[:, 1:], boot[:, 1:], lam[:, 1:])"


def patched(name, sentence, *changes):
    """The recipe with other words, entered into the catalogue when it is asked for."""

    def make():
        return changed_module(recipe.__name__, *changes)

    make.__name__ = name
    return mutant("agent", sentence)(make)


patched(
    "discount_folded_in_twice",
    "the continue head has learnt γ already, and the return multiplies by it again",
    (RETURNS, RETURNS.replace("cont[:, 1:]", "cfg.gamma * cont[:, 1:]")),
)
patched(
    "imagined_values_of_the_rows_before",
    "the imagined return bootstraps from the value of the row it starts from",
    (RETURNS, RETURNS.replace("boot[:, 1:]", "boot[:, :-1]")),
)
patched(
    "imagined_rewards_of_the_rows_before",
    "the imagined return takes the reward of the row at which the action was chosen",
    (RETURNS, RETURNS.replace("reward[:, 1:]", "reward[:, :-1]")),
)
patched(
    "weight_without_row_zero",
    "imagined rows are not weighted by the continue of the row they start from",
    ("cont.detach().cumprod(1)[:, :-1]", "cont.detach()[:, 1:].cumprod(1)"),
)
patched(
    "weight_forgotten",
    "imagined rows after a likely end count as much as any",
    ("cont.detach().cumprod(1)[:, :-1]", "cont.detach().cumprod(1)[:, :-1] * 0 + 1"),
)
patched(
    "entropy_penalised",
    "the entropy bonus has the wrong sign",
    ("+ cfg.entropy * entropy)", "- cfg.entropy * entropy)"),
)
patched(
    "scale_read_before_its_update_in_the_recipe",
    "the return scale is read before it has seen these returns",
    (
        "scale = agent.return_scale(target)  #",
        "scale = agent.return_scale.eval()(target); agent.return_scale.train()(target)  #",
    ),
)
patched(
    "action_of_the_next_row_in_the_policy_loss",
    "the policy's log-probability is of the action chosen a row later",
    ("policy.log_prob(action[:, :-1])", "policy.log_prob(action[:, 1:])"),
)
patched(
    "critic_trained_on_shifted_rows",
    "the critic's value of the next row is trained towards the return of this one",
    ("value[:, :-1].nll(target)", "value[:, 1:].nll(target)"),
)
patched(
    "slow_critic_of_another_row",
    "the critic is held near the slow critic's value of the next row",
    ("value[:, :-1].nll(slow[:, :-1])", "value[:, :-1].nll(slow[:, 1:])"),
)
patched(
    "replayed_time_limit_as_an_end",
    "on replayed rows a time limit counts as an end: nothing is bootstrapped there",
    (
        "live = cfg.gamma * (1 - batch.is_terminal.float())",
        "live = cfg.gamma * (1 - batch.is_last.float())",
    ),
)
patched(
    "replayed_end_ignored",
    "on replayed rows the value of a terminal row is bootstrapped from",
    (
        "live = cfg.gamma * (1 - batch.is_terminal.float())",
        "live = cfg.gamma * (1 - 0 * batch.is_terminal.float())",
    ),
)
patched(
    "replayed_return_crosses_episodes",
    "on replayed rows the return runs on into the next episode",
    (
        "lam = cfg.lam * (1 - batch.is_last.float())",
        "lam = cfg.lam * (1 - 0 * batch.is_last.float())",
    ),
)
patched(
    "replayed_rewards_of_the_rows_before",
    "on replayed rows the reward of the row itself is taken, not that of the next",
    (REPLAYED, REPLAYED.replace("batch.reward[:, 1:]", "batch.reward[:, :-1]")),
)
patched(
    "replayed_bootstrap_of_the_rows_before",
    "on replayed rows the return bootstraps from the row it starts from",
    (REPLAYED, REPLAYED.replace("boot[:, 1:]", "boot[:, :-1]")),
)
patched(
    "last_rows_train_the_critic",
    "the value of a last row is trained towards the next episode's return",
    (
        "return (1 - batch.is_last.float())[:, :-1] *",
        "return (1 - 0 * batch.is_last.float())[:, :-1] *",
    ),
)
patched(
    "imagination_trains_the_world",
    "the critic's loss on imagined rows reaches the world model: a stop-gradient is missing",
    ("start = post.flatten().detach()", "start = post.flatten()"),
    (
        "with torch.no_grad() if share == 1 else wb.rssm.frozen(*world):",
        "with torch.enable_grad():",
    ),
    ("feature, action = feature.detach(), action.detach()", "action = action.detach()"),
)
patched(
    "replayed_rows_do_not_train_the_world",
    "the critic's loss on replayed rows stops at the features: a stop-gradient too many",
    (
        "value = agent.value(post.feature())[:, :-1]",
        "value = agent.value(post.feature().detach())[:, :-1]",
    ),
)
patched(
    "terminal_continues",
    "the continue head learns 1 - is_last: a time limit is predicted as an end",
    ("alive = 1.0 - batch.is_terminal.float()", "alive = 1.0 - batch.is_last.float()"),
)
patched(
    "continue_without_discount",
    "the continue head learns whether the episode goes on, without γ: nothing is discounted",
    ("nll(cfg.gamma * alive)", "nll(alive)"),
)
patched(
    "reward_of_another_row",
    "the reward head learns the reward of the next row",
    (
        "agent.reward(feature).nll(batch.reward)",
        "agent.reward(feature).nll(batch.reward.roll(-1, 1))",
    ),
)
patched(
    "slow_critic_updated_twice_a_step",
    "the update moves the slow critic twice",
    (
        "    agent.slow_value.update(agent.value)\n",
        "    agent.slow_value.update(agent.value)\n    agent.slow_value.update(agent.value)\n",
    ),
)
patched(
    "gradients_not_cleared",
    "the gradients of the last update are added to those of this one",
    ("    optimizer.zero_grad()\n", ""),
)
