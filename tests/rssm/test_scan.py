import contextlib
import subprocess
import sys

import pytest
import torch
from torch import nn

from worldblocks.distributions import OneHot, modes
from worldblocks.layers import Layer, RMSNorm
from worldblocks.rssm import Carry, CategoricalLatent, dreamer_rssm, model, rollout
from worldblocks.rssm.cpu import fused_observe

BATCH, TIME = 3, 7


def rssm(**options):
    sizes = {"deter": 12, "hidden": 6, "groups": 5, "classes": 4, "blocks": 3}
    module = dreamer_rssm(embed_dim=11, action_dim=2, **sizes, **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def sequence(time):
    """A carry, embeddings, previous actions, and flags with resets at the start and later."""
    is_first = torch.zeros(BATCH, time, dtype=torch.bool)
    is_first[1, time // 2] = is_first[2, 0] = True
    start = Carry(torch.randn(BATCH, 12), torch.eye(4)[torch.randint(4, (BATCH, 5))])
    return start, torch.randn(BATCH, time, 11), torch.randn(BATCH, time, 2), is_first


def leaf(x):
    return x.clone().requires_grad_()


def observed(module, rows, weights):
    """Values of `observe`, and its gradients with respect to everything."""
    torch.manual_seed(3)
    start, embed, action, is_first = Carry(*map(leaf, rows[0])), *map(leaf, rows[1:3]), rows[3]
    states = module.observe(start, embed, action, is_first)
    wanted = [*start, embed, action, *(p for n, p in module.named_parameters() if "prior" not in n)]
    found = states.deter, states.stoch, states.parameters
    return [*found, *torch.autograd.grad(found, wanted, weights)]


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize(("time", "unimix"), [(1, 0.01), (TIME, 0.01), (TIME, 0.6)])
def test_the_scan_is_the_loop(monkeypatch, mode, time, unimix):
    """Values, samples and all gradients of the hand-written backward pass."""
    module, rows = rssm(unimix=unimix), sequence(time)
    deter, stoch = rows[0]
    weights = [torch.randn(BATCH, time, *x.shape[1:]) for x in (deter, stoch, stoch)]
    results = []
    for hook in (fused_observe, lambda *_: None):
        monkeypatch.setattr(model, "fused_observe", hook)
        with modes() if mode else contextlib.nullcontext():
            results.append(observed(module, rows, weights))
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() <= 2e-6 * expected.abs().max().clamp(min=1e-3)


def test_the_scan_is_taken_only_where_it_has_the_formulas():
    projected = torch.zeros(1)
    plain = rssm()
    assert fused_observe(plain.core, plain.latent, projected)
    assert not fused_observe(plain.core, plain.latent, projected.double())
    deep = rssm(core_layers=2)
    assert not fused_observe(deep.core, deep.latent, projected)
    deep = rssm(posterior_layers=2)
    assert not fused_observe(deep.core, deep.latent, projected)
    blind = rssm(absolute=True)
    assert not fused_observe(blind.core, blind.latent, projected)

    class Other(CategoricalLatent):
        """Might compute something else."""

    plain.latent.__class__ = Other
    assert not fused_observe(plain.core, plain.latent, projected)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused_observe(rssm().core, rssm().latent, projected)


class Louder(RMSNorm):
    """A norm of one's own."""

    def silu(self, x):
        """Twice as loud."""
        return 2 * super().silu(x)


def replace_norm(module):
    module.core.norms[0] = Louder(12)


def replace_posterior_norm(module):
    module.latent.posterior_mlp[0].norm = Louder(6)


def another_eps(module):
    module.core.from_deter.norm.eps = 0.1


def replace_map(module):
    module.core.from_stoch = nn.Sequential(Layer(20, 6), nn.Tanh())


def replace_logits(module):
    module.latent.posterior_out = nn.Sequential(nn.Linear(6, 20), nn.Tanh())


def override_distribution(module):
    module.latent.distribution = lambda logits: OneHot(logits, unimix=0.5, event=1)


def hook(module):
    module.latent.posterior_out.register_forward_hook(lambda _, __, out: 2 * out)


CHANGES = [replace_norm, replace_posterior_norm, another_eps, replace_map, replace_logits]
CHANGES += [override_distribution, hook]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_part_that_was_replaced_is_what_runs(change):
    torch.manual_seed(0)
    module, (carry, embed, action, is_first) = rssm(), sequence(TIME)
    change(module)
    with modes(), torch.no_grad():
        states = module.observe(carry, embed, action, is_first)
        for t in range(TIME):
            state = module.observe_step(carry, embed[:, t], action[:, t], is_first[:, t])
            torch.testing.assert_close(states.parameters[:, t], state.parameters)
            carry = state.carry
        imagined = rollout(module, carry, action)
        for t in range(TIME):
            state = module.imagine_step(carry, action[:, t])
            torch.testing.assert_close(imagined.parameters[:, t], state.parameters)
            carry = state.carry


def test_a_second_derivative_is_refused():
    """It would come out wrong: the gradient of the first is not recorded."""
    module, (carry, embed, *rest) = rssm(), sequence(TIME)
    states = module.observe(carry, embed.requires_grad_(), *rest)
    with pytest.raises(RuntimeError, match=r"RSSM.observe has no second .*observe_step has"):
        torch.autograd.grad(states.deter.sum(), embed, create_graph=True)


def test_no_batch_at_all():
    module, (carry, *rows) = rssm(), sequence(TIME)
    embed, action, is_first = (x[:0] for x in rows)
    embed.requires_grad_()
    states = module.observe(Carry(*(x[:0] for x in carry)), embed, action, is_first)
    assert states.deter.shape == (0, TIME, 12)
    states.deter.sum().backward()
    assert embed.grad.shape == embed.shape


# ---------------------------------------------------------------------------------------- recompute


@pytest.mark.parametrize("inside", [True, False])
def test_the_second_time_is_like_the_first(inside):
    """Modes in the forward pass alone, or in the backward pass alone."""
    module, rows = rssm(), sequence(TIME)
    gradients = []
    for recompute in (0, 2):
        module.recompute = recompute
        torch.manual_seed(0)
        with modes(inside):
            states = module.observe(*rows)
        with modes(not inside):
            gradients.append(
                torch.autograd.grad(
                    states.stoch.cumsum(1).square().sum(), module.core.gates.weight
                )[0]
            )
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("rows", [1, 3, TIME, 100])
@pytest.mark.parametrize("options", [{}, {"core_layers": 2}], ids=["scan", "loop"])
def test_computing_twice_changes_nothing(rows, options):
    module, given = rssm(**options), sequence(TIME)
    deter, stoch = given[0]
    weights = [torch.randn(BATCH, TIME, *x.shape[1:]) for x in (deter, stoch, stoch)]
    expected = observed(module, given, weights)
    module.recompute = rows
    for ours, theirs in zip(observed(module, given, weights), expected, strict=True):
        assert (ours - theirs).abs().max() <= 2e-6 * theirs.abs().max().clamp(min=1e-3)


def test_computing_twice_keeps_less():
    """Bytes that autograd saves in `observe`."""
    saved = {}
    for rows in (0, 2):
        module, (start, *given), sizes = rssm(core_layers=2, recompute=rows), sequence(TIME), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.nbytes) or x, lambda x: x
        ):
            module.observe(start, *given)
        saved[rows] = sum(sizes)
    assert saved[2] < saved[0] / 3


@pytest.mark.parametrize("recompute", [-1, 2.5, "4"])
def test_recompute_is_a_number_of_rows(recompute):
    message = f"recompute is a number of rows, or 0, got {recompute!r}"
    with pytest.raises(ValueError, match=message):
        rssm(recompute=recompute)


def test_files_that_are_first_read_while_another_device_is_the_default():
    """Constants of a CPU stay on it: submodules load on first use, which may be anywhere."""
    script = (
        "import torch; torch.set_default_device('meta')\n"
        "import worldblocks as wb; wb.rssm\n"
        "torch.set_default_device('cpu')\n"
        "sizes = {'deter': 12, 'hidden': 6, 'groups': 5, 'classes': 4, 'blocks': 3}\n"
        "rssm = wb.rssm.dreamer_rssm(embed_dim=11, action_dim=2, **sizes)\n"
        "rows = torch.zeros(2, 3, 11), torch.zeros(2, 3, 2), torch.zeros(2, 3).bool()\n"
        "states = rssm.observe(rssm.initial(2), *rows)\n"
        "with torch.no_grad():\n"
        "    rolled = wb.rssm.rollout(rssm, rssm.initial(2), rows[1])\n"
        "print(states.deter.device, rolled.deter.device)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "cpu cpu\n", done.stderr
