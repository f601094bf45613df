"""The known causes of each symptom, the most common first, and what to try."""

import re
from typing import NamedTuple


class Symptom(NamedTuple):
    """A symptom, and pairs of a cause and what to try."""

    sign: str
    causes: list[tuple[str, str]]


# section.symptom: the sign, then its causes as "- cause > what to try".
TEXT = """
prediction.baseline: Imagination is no better than a model-free guess
- Too few updates. > (more)
- The latent is not used (see KL and free nats). > Fix that first: the model cannot imagine what
  the latent does not contain.
- Resets are ignored, so a row with is_first continues the last episode. > Check that the
  environment sets is_first in the first row of an episode and nowhere else.
- The environment is random, so the mean is the best possible prediction. > Look at the first
  steps only, and at the error with shuffled actions.

prediction.actions: The true actions predict no better than shuffled ones
- Actions are stored one row late or early. > prev_action of row t is the action that led to row
  t; see docs/concepts/time.
- The policy hardly varied, so the actions carried no information. > Check the entropy. Raise the
  entropy weight, or start with random actions.
- Actions have no effect on the observations within 15 steps. > This needs no fix. Check with an
  environment in which they have.
- Too few updates: motion that needs no action is learnt first. > (more)

prediction.reconstruction: Observed rows are reconstructed badly
- Too few updates. > (more)
- Images below 64×64: the loss is a sum over pixels and too small compared with the KL. > Scale it
  to 64×64: --reconstruction (64 / image)².
- The decoder or the latent is too small. > Raise units, depth, groups or classes.
- One observation is much larger than the others, or is noise. > Look at the error of each key.
  Leave out observations that the task does not need.

kl.zero: The KL is nearly 0: posterior and prior are equal
- The reconstruction loss is too small compared with the free nats. > Scale it to a 64×64 image
  (--reconstruction), or lower the free nats.
- The encoder gets no gradient. > Look at its column under Gradients, and for an extra detach.
- Observations never change. > Check the output of the environment.

kl.floor: Nearly all rows are below the free nats
- The environment is predictable and the model has learnt it. > This needs no fix if the open-loop
  prediction is green.
- The latent is not used: it improves reconstruction by less than one nat. > Scale the
  reconstruction loss (--reconstruction), or lower the free nats.

kl.large: The KL is large: the prior does not predict the posterior
- Resets are ignored, or rows of different episodes are joined. > Check whether the KL jumps at
  new episodes, and check is_first.
- The policy reaches states that were not trained on. > (more)
- The dyn loss is too weak, or the observations are noise. > Check the loss weights (dyn 1, rep
  0.1) and the output of the environment.

categories.dead: Most classes or groups are never used
- The environment is simple and needs fewer classes. > This needs no fix if predictions are green.
  Fewer classes are faster.
- The latent collapsed early because the learning rate was too high. > Lower lr, lengthen warmup,
  and check that unimix (0.01) is on.
- The held-out rows are too few or too similar. > Increase --steps.

categories.uninformative: The latent does not depend on the observation
- Posterior collapse. > See the causes under KL, first the scale of the reconstruction loss.
- Too few updates. > (more)

units.inactive: Most dimensions of the latent are inactive
- The environment is simple and needs fewer dimensions. > This needs no fix if predictions are
  green. A smaller latent is faster.
- The KL losses outweigh the reconstruction loss in each dimension. > Scale the reconstruction
  loss (--reconstruction), or raise the free nats.
- The held-out rows are too few or too similar. > Increase --steps.

units.uninformative: The latent does not depend on the observation
- Posterior collapse. > See the causes under KL, first the scale of the reconstruction loss.
- Too few updates. > (more)

reward.constant: Rewards are predicted no better than by a constant
- Rewards are rare, so the head was trained on a handful. > Collect more first. Raise the entropy
  weight to find more.
- Rewards are stored one row late or early. > The reward of row t arrives with observation t; see
  docs/concepts/time.
- Rewards are random, or depend on something unobserved. > Add it to the observation. Otherwise
  the mean is the best possible prediction.
- Imagination is wrong (see Open-loop prediction). > Fix that first.

reward.false: Rewards are predicted in rows without reward
- Too few updates: the mean reward is learnt first. > (more)
- The latent does not contain what distinguishes these rows. > Check whether it is decoded. Small
  objects are learnt last.

value.uncorrelated: Values do not follow returns
- Rewards are not predicted yet; values come after them. > See Reward.
- Too few updates, or a policy that changes fast. > (more)
- Returns differ only by chance. > Look at the bias instead, or increase --steps.

value.high: Values are higher than the returns
- The actor exploits errors of the world model. > Train the model more (train_ratio), or shorten
  the horizon.
- Ends are not predicted, so imagination collects rewards beyond them. > See Continue.
- The policy has become worse than the one the critic learnt. > Look at the score curve; lower lr.

value.low: Values are lower than the returns
- The critic lags behind a policy that improves. > (more)
- Ends are predicted in rows that are no end. > See the effective horizon under Continue.
- Rewards are below the resolution of the bins near 0. > Scale the rewards so that returns are of
  order 1 or more.

continue.missed: Ends are not predicted
- Few terminal rows so far to learn from. > (more)
- Time limits are stored as terminal, but nothing in an observation announces them. > Set
  is_terminal only if the task ends; use is_last alone for a time limit.
- The last row of an episode is not stored. > The observation that arrives with the end is a row
  of its own.

continue.horizon: The effective horizon is wrong
- γ is missing in the target, or applied twice. > The target is γ · (1 - is_terminal), and
  imagination multiplies by nothing else.
- Too few updates. > (more)

scale.bounds: Imagined returns exceed what the rewards allow
- Training had larger rewards than these rows. > Increase --steps.
- A head predicts values of ±1e8 that should cancel, because its last layer is a plain linear map
  before symexp bins. > Use TwoHotHead, or MirroredLinear as the last layer.
- γ is missing in the target of the continue head, or the critic has diverged. > See Continue and
  Value.

scale.floor: The range of returns is below the floor
- Rewards are small or rare, and the floor keeps noise from being amplified. > Scale the rewards
  up, or lower the floor (--return-floor).
- The policy acts the same everywhere, so returns are alike. > See Policy entropy.

scale.stale: The running range differs from the current one
- Returns change fast, or these rows differ from those in training. > (more)
- The scale is not updated, because the module is in evaluation mode during training. > Call
  agent.train() before the loop.

scale.entropy: The entropy bonus outweighs the advantages
- Returns hardly depend on the actions yet. > See Reward and Value: both come before the actor.
- The entropy weight is too high for the scale of the rewards. > Lower it (--entropy), or scale
  the rewards up.

entropy.collapsed: The policy has stopped exploring
- The task is solved. > This needs no fix if the score is at its maximum.
- It collapsed before any reward was found. > Raise the entropy weight: small agents need 2e-2
  where 3e-3 collapses.
- Advantages are too large. > Check the return scale; lower lr.

entropy.uniform: The policy has no preference
- Too few updates. > (more)
- No reward has been found. > See Reward. Explore longer, or give rewards earlier.
- The entropy weight is too high. > Lower it; see the share of the advantages.

gradients.nonfinite: A gradient is inf or NaN
- An observation or reward is huge or not finite. > Check the output of the environment. Replay
  rejects NaN, but not 1e30.
- A custom loss divides by 0 or takes the log of 0. > Clamp it.
- The weights have diverged. > Lower lr; check that AGC is on.

gradients.leak: A loss trains a module that it must not
- A detach is missing, or torch.no_grad around imagination. > The actor learns from detached
  states, critics from detached targets.
- Two modules share parameters. > Give each its own.

gradients.missing: A loss does not train a module that it must
- dyn or rep: all rows are below the free nats. > See KL and free nats.
- The last layer of a head is initialised to 0 and passes no gradient back at first. > This needs
  no fix before the first update.
- An extra detach. > Compare with the table on the page of the recipe.

history.flat: The score does not rise
- It is too early, or the score was at its maximum from the start. > (more)
- A section above is red; the score rises last. > Fix the first red section: each section builds
  on those before it.
- The learning rate: below 1M parameters, 4e-5 is too low. > Use lr 1e-3 for such small agents.

history.fell: The score falls
- The policy collapsed. > See Policy entropy.
- The actor exploits the model. > See the bias of the value.
- lr is too high. > Lower it.

history.bounds: Returns imagined in training exceed what the rewards allow
- See the causes under Return scale. > Check the last layers of reward and critic first.

history.nonfinite: A metric was inf or NaN
- Training has diverged. > Lower lr; look at the curves before that step.
- The environment returned a huge number. > Look at its observations and rewards.

history.held_out: Losses are much higher on held-out rows
- Overfitting: few rows, trained on very often. > More environment steps, a lower train_ratio, or
  a smaller model.
- The episodes differ from those in training: other seeds, other levels. > This needs no fix if
  training meets them too.
"""
MORE = "Train longer, or raise train_ratio; check again after twice the updates."


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
