"""The known causes of each symptom, and what to try: the likeliest first."""

import re
from typing import NamedTuple


class Symptom(NamedTuple):
    """What is seen, and pairs of a cause and what to try."""

    sign: str
    causes: list[tuple[str, str]]


# section.symptom: what is seen, then its causes as "- cause > what to try".
TEXT = """
prediction.guessing: Imagination is no better than a guess
- Too few updates. > (more)
- The latent is not used (see KL and free nats). > Mend that first: nothing can be imagined that
  the latent does not hold.
- Resets are ignored: a row with is_first continues the last episode. > Check that the environment
  sets is_first on the first row and nowhere else.
- The environment is random: the mean is the best prediction there is. > Judge the first steps
  alone, and whether shuffled actions are worse.

prediction.deaf: The true actions help no more than shuffled ones
- Actions are stored one row late or early. > prev_action of row t is the action that led to row
  t; see docs/concepts/time.
- The policy hardly varied, so that actions carried no information. > Look at the entropy; raise
  the entropy weight, or begin with random actions.
- Actions do not matter within 15 steps, or not for what is observed. > Nothing to mend; check
  with an environment in which they do.
- Too few updates: what moves by itself is learnt first. > (more)

prediction.blind: Even rows just seen are decoded badly
- Too few updates. > (more)
- Images below 64×64: the loss, a sum over pixels, is too small beside the KL. > Scale it to
  64×64: --reconstruction (64 / image)².
- Too small a decoder or latent. > Raise units, depth, groups or classes.
- One observation is far larger than the others, or constant noise. > Look at the errors by key;
  leave out what the task does not need.

kl.silent: The KL is nearly 0: the posterior says what the prior says
- The reconstruction loss is too small beside the free nats. > Scale it to a 64×64 image
  (--reconstruction), or lower the free nats.
- The encoder gets no gradient. > Look at its column under Gradients; look for a detach too many.
- Observations never change. > Check what the environment gives.

kl.floor: Nearly all rows are below the free nats
- The environment is predictable and the model has learnt it. > Nothing to mend where the
  open-loop prediction is green.
- The latent is not used: reconstruction is worth less than one nat. > Scale the reconstruction
  loss (--reconstruction), or lower the free nats.

kl.surprised: The KL is large: the prior does not foresee the posterior
- Resets are ignored, or rows of different episodes are joined. > Look whether the KL leaps at new
  episodes; check is_first.
- The policy meets what it has not been trained on. > (more)
- The dyn loss is too weak or the observations are noise. > Check the loss weights (dyn 1, rep
  0.1), and what the environment gives.

categories.dead: Most classes or groups are never used
- The environment is simple: it needs a smaller alphabet. > Nothing to mend where predictions are
  green; fewer classes are faster.
- The latent collapsed early, with a learning rate too high. > Lower lr, lengthen warmup; check
  that unimix (0.01) is on.
- Too few or too similar held-out rows. > Give more --steps.

categories.mute: The latent is the same whatever is seen
- Posterior collapse. > See the causes under KL: first of all the scale of the reconstruction
  loss.
- Only a few updates so far. > (more)

units.dead: Most numbers of the latent say nothing
- The environment is simple: it needs fewer numbers. > Nothing to mend where predictions are green;
  a smaller latent is faster.
- The KL losses outweigh the reconstruction, number by number. > Scale the reconstruction loss
  (--reconstruction), or raise the free nats.
- Too few or too similar held-out rows. > Give more --steps.

units.mute: The latent is the same whatever is seen
- Posterior collapse. > See the causes under KL: first of all the scale of the reconstruction
  loss.
- Only a few updates so far. > (more)

reward.reward: Rewards are predicted no better than by a constant
- Rewards are rare: the head has seen a handful. > Collect more before judging; raise the entropy
  weight to find more.
- Rewards are stored one row late or early. > reward of row t arrived with observation t; see
  docs/concepts/time.
- Rewards depend on what is not observed, or are random. > Observe it; else the mean is the best
  there is.
- Imagination itself is wrong (see Open-loop prediction). > Mend that first.

reward.false: Rewards are predicted where none come
- Too few updates: the mean reward is learnt first. > (more)
- What tells the two kinds of rows apart is not in the latent. > Look whether it is decoded: small
  objects are the last to be.

value.unrelated: Values do not follow returns
- Rewards are not predicted yet; values come after them. > See Reward.
- Too few updates, or a policy that changes fast. > (more)
- Returns differ by chance alone. > Judge the bias instead, or give more --steps.

value.high: Values promise more than comes
- The actor exploits errors of the world model. > Train the model more (train_ratio), shorten the
  horizon.
- Ends are not foreseen, so imagination earns beyond them. > See Continue.
- The policy has become worse than the one the critic learnt. > Look at the score curve; lower lr.

value.low: Values promise less than comes
- The critic lags behind a policy that improves. > (more)
- Ends are predicted where there are none. > See the effective horizon under Continue.
- Rewards below the resolution of the bins near 0. > Scale rewards so that returns are of order 1
  or more.

continue.deathless: Terminal rows look alive
- Few terminal rows so far: the head has hardly seen one. > (more)
- Time limits are stored as terminal: nothing in a row announces them. > is_terminal only where
  the task ends; is_last alone for a time limit.
- The last row of an episode is not stored. > The observation that arrives with the end is a row
  of its own.

continue.horizon: Rows in mid-episode look mortal, or immortal
- γ is missing in the target, or is applied twice. > The target is γ · (1 - is_terminal), and
  imagination multiplies nothing else.
- Too few updates. > (more)

scale.impossible: Returns are imagined that no rewards can add up to
- Training saw larger rewards than these rows contain. > Give more --steps.
- A head predicts numbers of ±1e8 that should cancel: its last layer is a plain linear map before
  symexp bins. > Use TwoHotHead, or MirroredLinear as the last layer.
- γ is missing in the target of the continue head, or the critic has diverged. > See Continue and
  Value.

scale.floor: The range of returns is below the floor
- Rewards are small or rare: the floor keeps noise from being blown up. > Scale the rewards up, or
  lower the floor (--return-floor).
- The policy is the same everywhere, and so are its returns. > See the entropy.

scale.stale: The running range is not that of the returns
- Returns change fast, or these rows are unlike training's. > (more)
- The scale is not updated: the module is in evaluation mode in training. > agent.train() before
  the loop.

scale.drowned: The entropy bonus outweighs the advantages
- Returns hardly depend on the actions yet. > See Reward and Value: both come before the actor.
- The entropy weight is too high for the scale of the rewards. > Lower it (--entropy), or scale
  the rewards up.

entropy.collapsed: The policy has stopped trying things
- The task is solved. > Nothing to mend where the score is at its top.
- It collapsed before any reward was seen. > Raise the entropy weight: small agents need 2e-2
  where 3e-3 collapses.
- Advantages are too large. > Check the return scale; lower lr.

entropy.uniform: The policy prefers nothing
- Few updates so far. > (more)
- No reward has been found. > See Reward; explore longer, or reward earlier.
- The entropy weight is too high. > Lower it; see the share of the advantages.

gradients.infinite: A gradient is inf or NaN
- An observation or reward is huge or not finite. > Check what the environment gives; replay
  refuses NaN, but not 1e30.
- A loss of your own divides by, or takes the log of, 0. > Clamp it.
- The weights have diverged. > Lower lr; check that AGC is on.

gradients.leak: A loss changes a module it must not
- A detach is missing, or torch.no_grad around imagination. > The actor learns from detached
  states; critics from detached targets.
- Two modules share parameters. > Give each its own.

gradients.starved: A loss does not reach what it must teach
- dyn or rep: all rows are below the free nats. > See KL and free nats.
- Heads start with a last layer of 0 and pass nothing back at first. > Nothing to mend before the
  first update.
- A detach too many. > Compare with the table of the recipe's page.

history.flat: The score does not rise
- It is too early, or it has been at its top all along. > (more)
- Something above is red: the score is the last thing to rise. > Mend the first red section; each
  builds on those before.
- Learning rate: below 1M parameters 4e-5 is too low. > lr 1e-3 for such small agents.

history.fell: The score falls
- The policy collapsed. > See Policy entropy.
- The model is exploited. > See the bias of the value.
- lr is too high. > Lower it.

history.impossible: Training imagined returns that no rewards can add up to
- See the causes under Return scale. > Begin with the last layer of reward and critic.

history.infinite: A metric was inf or NaN
- Training has diverged. > Lower lr; look at the curves before that step.
- The environment gave a huge number. > Look at its observations and rewards.

history.unseen: Losses are much higher on rows not trained on
- Overfitting: few rows, trained on very often. > More environment steps, or a lower train_ratio;
  a smaller model.
- The episodes differ: other seeds, other levels. > Nothing to mend if training meets them as
  well.
"""
MORE = "Train longer, or raise train_ratio; look again after twice the updates."


def _read(text: str) -> dict[str, dict[str, Symptom]]:
    symptoms: dict[str, dict[str, Symptom]] = {}
    for block in text.strip().split("\n\n"):
        head, *causes = re.sub(r"\n  ", " ", block).split("\n- ")
        place, sign = head.split(": ", 1)
        section, key = place.split(".")
        pairs = [cause.replace("(more)", MORE).split(" > ") for cause in causes]
        symptoms.setdefault(section, {})[key] = Symptom(sign, [(a, b) for a, b in pairs])
    return symptoms


SYMPTOMS = _read(TEXT)
