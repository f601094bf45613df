"""Faults of dynamics blocks: a healthy RSSM, and around it what people get wrong."""

import torch
from torch import nn
from torch.utils import _pytree as pytree

from worldblocks.distributions import OneHot
from worldblocks.rssm import Carry, State, dreamer_rssm

from .mutant import mutant

EMBED, ACTION = 7, 3
SIZES = {"deter": 12, "hidden": 6, "groups": 5, "classes": 4, "blocks": 3}


def healthy():
    return dreamer_rssm(embed_dim=EMBED, action_dim=ACTION, **SIZES)


def zeros_at(flag, x):
    return torch.where(flag.reshape(-1, *[1] * (x.ndim - 1)), 0.0, x)


class Around(nn.Module):
    """A healthy block, step by step; a mutant changes one method."""

    def __init__(self):
        super().__init__()
        self.inner = healthy()
        self.feature_dim = self.inner.feature_dim

    def initial(self, batch):
        return self.inner.initial(batch)

    def observe_step(self, carry, embed, prev_action, is_first):
        return self.inner.observe_step(carry, embed, prev_action, is_first)

    def observe(self, carry, embed, prev_action, is_first):
        states = []
        for t in range(embed.shape[1]):
            states.append(self.observe_step(carry, embed[:, t], prev_action[:, t], is_first[:, t]))
            carry = states[-1].carry
        return pytree.tree_map(lambda *rows: torch.stack(rows, 1), *states)

    def imagine_step(self, carry, action):
        return self.inner.imagine_step(carry, action)

    def prior(self, state):
        return self.inner.prior(state)


@mutant("dynamics", "is_first is never looked at")
class reset_ignored(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        return super().observe_step(carry, embed, prev_action, torch.zeros_like(is_first))


@mutant("dynamics", "a reset clears the deterministic state and leaves the stochastic one")
class stochastic_state_not_reset(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        carry = Carry(zeros_at(is_first, carry.memory), carry.stoch)
        action = zeros_at(is_first, prev_action)
        return super().observe_step(carry, embed, action, torch.zeros_like(is_first))


@mutant("dynamics", "the action of the last episode still leads to a first row")
class action_not_reset(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        carry = Carry(*(zeros_at(is_first, x) for x in carry))
        return super().observe_step(carry, embed, prev_action, torch.zeros_like(is_first))


@mutant("dynamics", "the carry is reset in the row after is_first")
class reset_one_row_late(Around):
    def observe(self, carry, embed, prev_action, is_first):
        late = torch.cat([torch.zeros_like(is_first[:, :1]), is_first[:, :-1]], 1)
        return super().observe(carry, embed, prev_action, late)


@mutant("dynamics", "one element's reset resets the whole batch")
class reset_of_everyone(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        everyone = is_first.any().expand(is_first.shape)
        return super().observe_step(carry, embed, prev_action, everyone)


@mutant("dynamics", "a reset multiplies by zero, which leaves NaN")
class reset_by_a_product(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        alive = 1 - is_first.float()
        carry = Carry(carry.memory * alive[:, None], carry.stoch * alive[:, None, None])
        action = prev_action * alive[:, None]
        return super().observe_step(carry, embed, action, torch.zeros_like(is_first))


@mutant("dynamics", "the values are reset, and the gradient still crosses")
class gradient_crosses_a_reset(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        carry = Carry(*(zeros_at(is_first, x).detach() + (x - x.detach()) for x in carry))
        action = zeros_at(is_first, prev_action)
        return super().observe_step(carry, embed, action, torch.zeros_like(is_first))


@mutant("dynamics", "a reset sets the action to the one-hot of action 0, not to zeros")
class reset_acts(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        carry = Carry(*(zeros_at(is_first, x) for x in carry))
        first = torch.zeros_like(prev_action)
        first[:, 0] = 1
        action = torch.where(is_first[:, None], first, prev_action)
        return super().observe_step(carry, embed, action, torch.zeros_like(is_first))


@mutant("dynamics", "row t takes the action chosen at row t, not the one that led to it")
class action_shifted(Around):
    def observe(self, carry, embed, prev_action, is_first):
        return super().observe(carry, embed, prev_action.roll(-1, 1), is_first)


@mutant("dynamics", "observing forgets the action")
class action_ignored(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        return super().observe_step(carry, embed, torch.zeros_like(prev_action), is_first)


@mutant("dynamics", "imagining forgets the action")
class action_ignored_in_imagination(Around):
    def imagine_step(self, carry, action):
        return super().imagine_step(carry, torch.zeros_like(action))


@mutant("dynamics", "the posterior does not see the observation")
class observation_ignored(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        return super().observe_step(carry, torch.zeros_like(embed), prev_action, is_first)


@mutant("dynamics", "a bad reshape hands rows of one element to another")
class batch_mixed_by_a_reshape(Around):
    def observe(self, carry, embed, prev_action, is_first):
        batch, time, _ = embed.shape
        mixed = embed.reshape(time, batch, -1).transpose(0, 1)
        return super().observe(carry, mixed, prev_action, is_first)


@mutant("dynamics", "embeddings are centred over the batch")
class batch_statistics(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        return super().observe_step(carry, embed - embed.mean(0), prev_action, is_first)


@mutant("dynamics", "the gradient of one element reaches another, values do not")
class batch_gradient_mixed(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        leak = embed.roll(1, 0)
        return super().observe_step(carry, embed + leak - leak.detach(), prev_action, is_first)


@mutant("dynamics", "a row sees a little of the next row's observation")
class future_seen(Around):
    def observe(self, carry, embed, prev_action, is_first):
        ahead = torch.cat([embed[:, 1:], embed[:, -1:]], 1)
        return super().observe(carry, embed + 0.01 * ahead, prev_action, is_first)


@mutant("dynamics", "observe runs from the last row to the first")
class time_reversed(Around):
    def observe(self, carry, embed, prev_action, is_first):
        rows = (x.flip(1) for x in (embed, prev_action, is_first))
        return pytree.tree_map(lambda x: x.flip(1), super().observe(carry, *rows))


@mutant("dynamics", "every row starts from the initial carry: nothing is remembered")
class carry_not_passed(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        carry = pytree.tree_map(torch.zeros_like, carry)
        return super().observe_step(carry, embed, prev_action, is_first)


@mutant("dynamics", "observe starts from the initial carry instead of the given one")
class given_carry_ignored(Around):
    def observe(self, carry, embed, prev_action, is_first):
        return super().observe(self.initial(len(embed)), embed, prev_action, is_first)


@mutant("dynamics", "the deterministic state loses its gradient between rows")
class carry_detached(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        carry = Carry(carry.memory.detach(), carry.stoch)
        return super().observe_step(carry, embed, prev_action, is_first)

    def imagine_step(self, carry, action):
        return super().imagine_step(Carry(carry.memory.detach(), carry.stoch), action)


@mutant("dynamics", "samples carry no straight-through gradient")
class straight_through_forgotten(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        state = super().observe_step(carry, embed, prev_action, is_first)
        return state._replace(stoch=state.stoch.detach())

    def imagine_step(self, carry, action):
        state = super().imagine_step(carry, action)
        return state._replace(stoch=state.stoch.detach())


class Resampled(Around):
    """Draws the stochastic part itself, by `draw(logits)`, in both steps."""

    def draw(self, logits):
        return OneHot(logits, unimix=0.01, event=1).sample()

    def again(self, state):
        stoch = self.draw(state.parameters).to(state.deter.dtype)
        return State(state.deter, stoch, state.parameters)

    def observe_step(self, carry, embed, prev_action, is_first):
        return self.again(super().observe_step(carry, embed, prev_action, is_first))

    def imagine_step(self, carry, action):
        return self.again(super().imagine_step(carry, action))


@mutant("dynamics", "all elements of a batch draw with the same noise")
class noise_shared_across_batch(Resampled):
    def draw(self, logits):
        noise = torch.rand(1, *logits.shape[1:-1]).expand(logits.shape[:-1])
        return OneHot(logits, unimix=0.01, event=1).sample(noise)


@mutant("dynamics", "imagination takes the mode of the latent instead of a sample")
class mode_instead_of_sample(Around):
    def imagine_step(self, carry, action):
        state = super().imagine_step(carry, action)
        mode = OneHot(state.parameters, unimix=0.01, event=1).mode
        return state._replace(stoch=mode.to(state.deter.dtype))


@mutant("dynamics", "imagined latents are drawn without the prior's unimix")
class unimix_forgotten_in_sampling(Around):
    def __init__(self):
        super().__init__()
        self.inner.latent.unimix = 0.2

    def imagine_step(self, carry, action):
        state = super().imagine_step(carry, action)
        drawn = OneHot(state.parameters, event=1).sample()
        return state._replace(stoch=drawn.to(state.deter.dtype))


@mutant("dynamics", "imagination draws from the posterior of a blank observation, not the prior")
class imagined_by_the_posterior(Around):
    def imagine_step(self, carry, action):
        never = torch.zeros(len(action), dtype=torch.bool)
        return self.observe_step(carry, action.new_zeros(len(action), EMBED), action, never)


@mutant("dynamics", "the carry's rows are cleared in place at a reset")
class carry_changed_in_place(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        with torch.no_grad():
            for leaf in carry:
                leaf[is_first] = 0
        return super().observe_step(carry, embed, prev_action, is_first)


@mutant("dynamics", "imagine_step continues from what was computed last, not from its argument")
class hidden_state(Around):
    last = None

    def observe_step(self, carry, embed, prev_action, is_first):
        state = super().observe_step(carry, embed, prev_action, is_first)
        self.last = state.carry
        return state

    def imagine_step(self, carry, action):
        same = self.last is not None and self.last.memory.shape == carry.memory.shape
        state = super().imagine_step(self.last if same else carry, action)
        self.last = state.carry
        return state


@mutant("dynamics", "the deterministic state, which the prior reads, has seen its own observation")
class prior_sees_the_observation(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        state = super().observe_step(carry, embed, prev_action, is_first)
        return state._replace(deter=state.deter + 0.1 * embed.mean(-1, keepdim=True))


@mutant("dynamics", "observe scales its embeddings, observe_step does not")
class sequence_unlike_steps(Around):
    def observe(self, carry, embed, prev_action, is_first):
        return super().observe(carry, embed.clamp(-1, 1), prev_action, is_first)


@mutant("dynamics", "imagine_step halves the action, observe_step does not")
class imagination_unlike_observation(Around):
    def imagine_step(self, carry, action):
        return super().imagine_step(carry, action / 2)


@mutant("dynamics", "a random projection is a plain attribute and no part of the state dict")
class weights_not_saved(Around):
    def __init__(self):
        super().__init__()
        self.projection = torch.randn(EMBED, EMBED)

    def observe_step(self, carry, embed, prev_action, is_first):
        return super().observe_step(carry, embed @ self.projection, prev_action, is_first)


@mutant("dynamics", "the carry is rounded to bfloat16 on its way")
class carry_rounded(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        state = super().observe_step(carry, embed, prev_action, is_first)
        return state._replace(deter=state.deter.bfloat16())


@mutant("dynamics", "the initial carry is always float32 on the CPU")
class initial_carry_pinned(Around):
    def initial(self, batch):
        return Carry(torch.zeros(batch, 12), torch.zeros(batch, 5, 4))


@mutant("dynamics", "Python looks whether any flag is set, so that no graph can be captured")
class python_branch_on_a_flag(Around):
    def observe_step(self, carry, embed, prev_action, is_first):
        if is_first.any():
            carry = Carry(*(zeros_at(is_first, x) for x in carry))
        return super().observe_step(carry, embed, prev_action, is_first)


@mutant("dynamics", "a state that is stored and taken out again has lost its deterministic part")
class packed_with_loss(Around):
    def pack(self, carry):
        return self.inner.pack(carry)._replace(memory=carry.memory.half())

    def unpack(self, packed):
        return self.inner.unpack(packed._replace(memory=packed.memory.float()))
