"""All estimators but `lambda_return`, and the identities between all of them."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.testing import assert_close

from worldblocks.returns import (
    VTrace,
    discounted_return,
    gae,
    lambda_return,
    n_step_return,
    retrace,
    vtrace,
)

seeds = st.integers(0, 2**32 - 1)
lams = st.floats(0, 1)
NAMES = ("reward", "discount", "value", "baseline", "log_ratio", "lam")


def draw(seed, batch=2, time=5):
    """All rows by name; some discounts are 0, and one critic provides `value` and `baseline`."""
    generator = torch.Generator().manual_seed(seed)
    reward, log_ratio = torch.randn(2, batch, time, generator=generator).double()
    values = torch.randn(batch, time + 1, generator=generator).double()
    discount, lam = torch.rand(2, batch, time, generator=generator).double()
    discount = discount * (discount > 0.2)
    rows = (reward, discount, values[:, 1:].clone(), values[:, :-1].clone(), log_ratio, lam)
    return dict(zip(NAMES, rows, strict=True))


def some(rows, *names):
    return [rows[name] for name in names]


def td(rows):
    return some(rows, "reward", "discount", "value")


def weighted(function, rows):
    """The result of any estimator as one tensor."""
    if function in (vtrace, retrace):
        rows = {
            "action_value" if k == "baseline" and function is retrace else k: rows[k] for k in rows
        }
    wanted = {k: v for k, v in rows.items() if k in inspect.signature(function).parameters}
    if function is n_step_return:
        wanted["n"] = 3
    if function is discounted_return:
        wanted["last_value"] = rows["value"][:, -1]
    out = function(**wanted)
    return torch.stack(out) if isinstance(out, VTrace) else out


ALL = [discounted_return, n_step_return, gae, vtrace, retrace]
CUT = ALL[1:]  # those that take λ


# -------------------------------------------------------------------------------------- by hand


def test_discounted_return_by_hand():
    """R2 = 1 + 8/2 = 5, R1 = 1 + 0 · 5, R0 = 4 + 1/2."""
    reward, discount = torch.tensor([[4.0, 1, 1]]), torch.tensor([[0.5, 0, 0.5]])
    last = torch.tensor([8.0])
    assert discounted_return(reward, discount, last).tolist() == [[4.5, 1, 5]]
    assert discounted_return(reward, discount).tolist() == [[4.5, 1, 1]]


def test_n_step_return_by_hand():
    """R0 = 0 + (1 + 6/2)/2, R1 = 1 + (1 + 8/2)/2, R2 = 1 + 8/2: fewer rewards at the end."""
    reward, value = torch.tensor([[0.0, 1, 1]]), torch.tensor([[4.0, 6, 8]])
    half = torch.full((1, 3), 0.5)
    assert n_step_return(reward, half, value, 2).tolist() == [[2, 3.5, 5]]
    assert n_step_return(reward, half, value, 1).tolist() == [[2, 4, 5]]
    cut = torch.tensor([[1.0, 0, 1]])  # at row 1
    assert n_step_return(reward, half, value, 3, cut).tolist() == [[2, 4, 5]]


def test_gae_by_hand():
    """δ = (0 + 4/2 - 2, 1 + 6/2 - 4, 1 + 8/2 - 6) = (0, 0, -1); γλ = 1/4."""
    reward, value = torch.tensor([[0.0, 1, 1]]), torch.tensor([[4.0, 6, 8]])
    baseline = torch.tensor([[2.0, 4, 6]])
    half = torch.full((1, 3), 0.5)
    assert gae(reward, half, value, baseline, 0.5).tolist() == [[-0.0625, -0.25, -1]]


def test_vtrace_by_hand():
    """Ratios 2, 1/2, 4 with ρ̄ = 2, c̄ = 1; γ = 1/2. δ = (2 · 0, 1/2 · 0, 2 · -1).

    V2 = 6 - 2 = 4, V1 = 4 + 0 + 1/2 · 1/2 · -2 = 3.5, V0 = 2 + 0 + 1/2 · 1 · -1/2 = 1.75.
    A2 = 2 (1 + 4 - 6), A1 = 1/2 (1 + 2 - 4), A0 = 2 (0 + 1.75 - 2).
    """
    reward, value = torch.tensor([[0.0, 1, 1]]), torch.tensor([[4.0, 6, 8]])
    baseline, half = torch.tensor([[2.0, 4, 6]]), torch.full((1, 3), 0.5)
    log_ratio = torch.tensor([[2.0, 0.5, 4]]).log()
    out = vtrace(reward, half, value, baseline, log_ratio, rho_max=2, c_max=1)
    assert_close(out.value, torch.tensor([[1.75, 3.5, 4]]))
    assert_close(out.advantage, torch.tensor([[-0.5, -0.5, -2]]))


def test_retrace_by_hand():
    """Ratios ?, 1/2, 4: c = (1/2, 1, -). δ = (0, 0, -1), γ = 1/2.

    Q2 = 5, Q1 = 4 + 1/2 · 1 · -1 = 3.5, Q0 = 2 + 1/2 · 1/2 · -1/2 = 1.875.
    """
    reward, value = torch.tensor([[0.0, 1, 1]]), torch.tensor([[4.0, 6, 8]])
    q, half = torch.tensor([[2.0, 4, 6]]), torch.full((1, 3), 0.5)
    for first in (1e-3, 1e3):  # of the action itself: not used
        log_ratio = torch.tensor([[first, 0.5, 4]]).log()
        assert_close(retrace(reward, half, value, q, log_ratio), torch.tensor([[1.875, 3.5, 5]]))


def test_a_window_of_one_row_by_hand():
    """r = 3, γ = 1/2, v = 8, b = 2; the action is twice as likely under π: ρ is cut at 1."""
    reward, discount, value, baseline = (torch.tensor([[x]]) for x in (3.0, 0.5, 8.0, 2.0))
    row, twice = (reward, discount, value), torch.tensor([[2.0]]).log()
    assert discounted_return(reward, discount).item() == 3
    assert lambda_return(*row, 0.9).item() == n_step_return(*row, 1).item() == 7
    assert gae(*row, baseline, 0.9).item() == 5
    assert [x.item() for x in vtrace(*row, baseline, twice)] == [7, 5]
    assert [x.item() for x in vtrace(*row, baseline, twice, rho_max=2.0)] == [12, 10]
    assert retrace(*row, baseline, twice).item() == 7


# ------------------------------------------------------------------------- identities among them


@given(seeds, lams)
def test_gae_and_the_baseline_are_the_lambda_return(seed, lam):
    rows = draw(seed)
    assert_close(
        gae(*td(rows), rows["baseline"], lam) + rows["baseline"], lambda_return(*td(rows), lam)
    )
    advantage = gae(*some(rows, "reward", "discount", "value", "baseline", "lam"))
    assert_close(advantage + rows["baseline"], lambda_return(*td(rows), rows["lam"]))


@given(seeds)
def test_gae_at_its_ends(seed):
    rows = draw(seed)
    reward, discount, value = td(rows)
    error = reward + discount * value - rows["baseline"]
    assert_close(gae(reward, discount, value, rows["baseline"], 0.0), error)
    full = discounted_return(reward, discount, value[:, -1])
    assert_close(gae(reward, discount, value, rows["baseline"], 1.0), full - rows["baseline"])


@given(seeds, st.integers(1, 7))
def test_discounted_and_n_step_returns_are_ends_of_the_lambda_return(seed, time):
    rows = draw(seed, time=time)
    reward, discount, value = td(rows)
    full = lambda_return(reward, discount, value, 1.0)
    assert_close(discounted_return(reward, discount, value[:, -1]), full)
    for n in (time, time + 3):
        assert_close(n_step_return(reward, discount, value, n), full)
        truncated = n_step_return(reward, discount, value, n, rows["lam"])
        assert_close(truncated, lambda_return(reward, discount, value, rows["lam"]))
    assert_close(n_step_return(reward, discount, value, 1), lambda_return(*td(rows), 0.0))


@given(seeds, st.floats(0.1, 0.9))
def test_the_lambda_return_is_a_mixture_of_n_step_returns(seed, lam):
    """Σ_n (1 - λ) λ^(n-1) R_n, with the remaining weight on the longest (no cut in the window)."""
    rows, time = draw(seed), 5
    steps = [n_step_return(*td(rows), n)[:, 0] for n in range(1, time + 1)]
    shares = [(1 - lam) * lam**k for k in range(time - 1)] + [lam ** (time - 1)]
    mixture = sum(share * step for share, step in zip(shares, steps, strict=True))
    assert_close(lambda_return(*td(rows), lam)[:, 0], mixture)


@given(seeds, lams, st.sampled_from([1.0, 2.0, math.inf]))
def test_vtrace_on_policy_is_the_lambda_return(seed, lam, most):
    rows = draw(seed)
    reward, discount, value, baseline = some(rows, "reward", "discount", "value", "baseline")
    on_policy = torch.zeros_like(reward)
    for rate in (lam, rows["lam"]):
        out = vtrace(reward, discount, value, baseline, on_policy, rate, rho_max=most, c_max=most)
        assert_close(out.value, lambda_return(reward, discount, value, rate))
        assert_close(out.advantage, gae(reward, discount, value, baseline, rate))


@given(seeds)
def test_vtrace_without_truncation_weighs_the_whole_product(seed):
    """ρ̄ = c̄ = ∞, λ = 1: importance sampling of each reward and of each correction."""
    rows = draw(seed)
    out = vtrace(**{**rows, "lam": 1.0}, rho_max=math.inf, c_max=math.inf)
    product = rows["log_ratio"].cumsum(1).exp()
    going = torch.cat([torch.ones(2, 1), rows["discount"].cumprod(1)[:, :-1]], 1)
    error = rows["reward"] + rows["discount"] * rows["value"] - rows["baseline"]
    assert_close(out.value[:, 0], rows["baseline"][:, 0] + (going * product * error).sum(1))


@given(seeds)
def test_right_values_are_a_fixed_point_of_vtrace_and_retrace(seed):
    """If no step has an error, ratios and λ do not matter."""
    rows = draw(seed)
    reward = rows["baseline"] - rows["discount"] * rows["value"]
    out = vtrace(**{**rows, "reward": reward})
    assert_close(out.value, rows["baseline"])
    assert_close(out.advantage, torch.zeros_like(reward))
    names = ("discount", "value", "baseline", "log_ratio", "lam")
    assert_close(retrace(reward, *some(rows, *names)), rows["baseline"])


@given(seeds, lams)
def test_retrace_on_policy_with_values_of_the_actions_taken_is_the_lambda_return(seed, lam):
    """A deterministic policy: the value of a row is that of the action chosen there."""
    rows = draw(seed)
    on_policy = torch.zeros_like(rows["reward"])
    for rate in (lam, 1.0, rows["lam"]):
        target = retrace(*td(rows), rows["baseline"], on_policy, rate)
        assert_close(target, lambda_return(*td(rows), rate))


@given(seeds)
def test_retrace_without_traces_is_one_step(seed):
    """λ = 0, or a policy that never takes the action (π = 0)."""
    rows = draw(seed)
    one = rows["reward"] + rows["discount"] * rows["value"]
    never = torch.full_like(rows["reward"], -math.inf)
    assert_close(retrace(*td(rows), rows["baseline"], rows["log_ratio"], 0.0), one)
    assert_close(retrace(*td(rows), rows["baseline"], never), one)


@given(seeds)
def test_vtrace_of_what_the_policy_never_does_is_the_baseline(seed):
    rows = draw(seed)
    out = vtrace(**{**rows, "log_ratio": torch.full_like(rows["reward"], -math.inf)})
    assert_close(out.value, rows["baseline"])
    assert out.advantage.eq(0).all()


# --------------------------------------------------------------------------------- slow oracles


def slow_n_step(rows, n):
    """Sum rewards until n, a cut, or the end of the window; then add the value."""
    reward, discount, value = td(rows)
    returns = torch.zeros_like(reward)
    for b, t in torch.cartesian_prod(torch.arange(2), torch.arange(reward.shape[1])).tolist():
        going = 1.0
        for k in range(t, min(t + n, reward.shape[1])):
            returns[b, t] += going * reward[b, k]
            going *= discount[b, k]
            if rows["lam"][b, k] == 0:
                break
        returns[b, t] += going * value[b, k]
    return returns


@given(seeds, st.integers(1, 6))
def test_n_step_return_is_the_slow_loop(seed, n):
    rows = draw(seed)
    rows["lam"] = rows["lam"].gt(0.3).double()
    assert_close(n_step_return(*td(rows), n, rows["lam"]), slow_n_step(rows, n))


def slow_sums(rows, head, trace):
    """Σ_k (Π γ trace) head δ_k from each row on, as in the papers, with λ in the trace."""
    error = rows["reward"] + rows["discount"] * rows["value"] - rows["baseline"]
    sums = torch.zeros_like(error)
    for b in range(error.shape[0]):
        for t in range(error.shape[1]):
            product = 1.0
            for k in range(t, error.shape[1]):
                sums[b, t] += product * head[b, k] * error[b, k]
                product *= rows["discount"][b, k] * rows["lam"][b, k] * trace[b, k]
    return sums


@given(seeds, st.floats(0.3, 2), st.floats(0, 1))
def test_they_are_the_sums_of_the_papers(seed, rho_max, share):
    rows = draw(seed)
    ratio, one = rows["log_ratio"].exp(), torch.ones(2, 5).double()
    assert_close(gae(*some(rows, *NAMES[:4], "lam")), slow_sums(rows, one, one))
    c_max = max(share * rho_max, 1e-3)
    head, trace = ratio.clamp(max=rho_max), ratio.clamp(max=c_max)
    out = vtrace(**rows, rho_max=rho_max, c_max=c_max)
    assert_close(out.value, rows["baseline"] + slow_sums(rows, head, trace))
    following = torch.cat([ratio[:, 1:], ratio[:, :1]], 1).clamp(max=1)
    target = retrace(*some(rows, *NAMES))
    assert_close(target, rows["baseline"] + slow_sums(rows, one, following))


# --------------------------------------------------------------------- ends, cuts, numbers, types


def influence(function, rows, upto):
    """The rows of each argument on which the results up to entry `upto` depend."""
    leaves = {k: rows[k].clone().requires_grad_() for k in NAMES[:5]} | {"lam": rows["lam"]}
    out = weighted(function, leaves)[..., :upto].square().sum()
    inputs = [leaves[k] for k in NAMES[:5]]
    found = torch.autograd.grad(out, inputs, allow_unused=True)
    return {k: g for k, g in zip(NAMES, found, strict=False) if g is not None}


@pytest.mark.parametrize("function", CUT)
def test_a_cut_bootstraps_and_hides_what_follows(function):
    """λ = 0 at destination row 2, a time limit: its value counts, later rows do not."""
    rows = draw(0)
    rows["discount"] += 0.1
    rows["lam"] += 0.1
    rows["lam"][:, 2] = 0
    gradients = influence(function, rows, upto=3)
    for name, gradient in gradients.items():
        assert gradient[:, 3:].eq(0).all(), name
    assert gradients["value"][:, 2].ne(0).all()
    assert gradients["reward"][:, 2].ne(0).all()


@pytest.mark.parametrize("function", ALL)
def test_nothing_follows_a_terminal_row(function):
    rows = draw(0)
    rows["discount"] += 0.1
    rows["discount"][:, 2] = 0
    gradients = influence(function, rows, upto=3)
    for name in {"reward", "baseline", "log_ratio"} & set(gradients):
        assert gradients[name][:, 3:].eq(0).all(), name
    if "value" in gradients:
        assert gradients["value"][:, 2:].eq(0).all()


def test_a_cut_window_is_two_windows():
    """A replayed window of two episodes gives the same returns as each episode alone."""
    rows = draw(3, time=7)
    rows["lam"][:, 3] = 0
    for function in CUT:
        whole = weighted(function, rows)
        first = weighted(function, {k: v[:, :4] for k, v in rows.items()})
        second = weighted(function, {k: v[:, 4:] for k, v in rows.items()})
        assert_close(whole[..., :4], first)
        assert_close(whole[..., 4:], second)


@pytest.mark.parametrize("function", ALL)
def test_gradients_reach_the_arguments_and_are_right(function):
    rows = draw(0)
    rows["discount"] += 0.1
    names = list(NAMES)
    leaves = [rows[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(
        lambda *values: weighted(function, dict(zip(names, values, strict=True))), leaves
    )


@pytest.mark.parametrize("function", ALL)
def test_the_dtype_stays_and_autocast_changes_nothing(function):
    rows = draw(0)
    assert weighted(function, rows).dtype == torch.float64
    rows = {k: v.float() for k, v in rows.items()}
    plain = weighted(function, rows)
    with torch.autocast("cpu", torch.bfloat16):
        cast = weighted(function, rows)
    assert (plain.dtype, torch.equal(plain, cast)) == (torch.float32, True)


@pytest.mark.parametrize("function", [vtrace, retrace])
def test_ratios_of_any_size_leave_finite_numbers_and_gradients(function):
    rows = draw(0)
    rows["log_ratio"] = torch.tensor([[-1e30, -200, 0, 200, 1e30]] * 2).double().requires_grad_()
    out = weighted(function, rows)
    assert out.isfinite().all()
    (gradient,) = torch.autograd.grad(out.sum(), rows["log_ratio"])
    assert gradient.isfinite().all()


def test_capture(same_when_compiled):
    rows = {k: v.float() for k, v in draw(0, time=3).items()}

    def every(*values):
        return [weighted(f, dict(zip(NAMES, values, strict=True))) for f in ALL]

    same_when_compiled(every, *rows.values())


@pytest.mark.parametrize("function", ALL)
def test_no_rows(function):
    message = f"^{function.__name__} needs at least one destination row, got time = 0"
    rows = {k: v[:, :0] for k, v in draw(0).items()} | {"value": torch.zeros(2, 1).double()[:, :0]}
    if function is discounted_return:
        with pytest.raises(ValueError, match=message):
            discounted_return(rows["reward"], rows["discount"])
        return
    with pytest.raises(ValueError, match=message):
        weighted(function, rows)


@pytest.mark.parametrize("lam", [95, 1.1, -0.1, math.nan])
@pytest.mark.parametrize("function", CUT)
def test_a_lambda_out_of_range(function, lam):
    message = f"^{function.__name__} takes a lam between 0 and 1, got {lam}"
    with pytest.raises(ValueError, match=message):
        weighted(function, draw(0) | {"lam": lam})


@pytest.mark.parametrize("n", [0, -3])
def test_an_impossible_n(n):
    with pytest.raises(ValueError, match=f"takes n >= 1 rewards, got n = {n}"):
        n_step_return(*td(draw(0)), n)


@pytest.mark.parametrize(("rho_max", "c_max"), [(1.0, 2.0), (0.0, 0.0), (1.0, -1.0), (1, math.nan)])
def test_impossible_truncations(rho_max, c_max):
    message = f"takes 0 < c_max <= rho_max, got c_max={c_max} and rho_max={rho_max}"
    with pytest.raises(ValueError, match=message):
        vtrace(**draw(0), rho_max=rho_max, c_max=c_max)


@pytest.mark.parametrize("function", [gae, vtrace, retrace])
def test_all_rows_instead_of_those_of_origins_are_refused(function):
    name = "action_value" if function is retrace else "baseline"
    rows = draw(0)
    rows["baseline"] = torch.zeros(2, 6).double()
    with pytest.raises(
        TypeCheckError,
        match=rf"{name} should be .*'batch time'\], got float64\[2, 6\]; its axis time is 6",
    ):
        weighted(function, rows)
