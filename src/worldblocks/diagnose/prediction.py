"""Section 1: what the world model predicts, 1 to 15 steps after the last row it saw."""

from html import escape
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.figures import Chart
from worldblocks.diagnose.finding import Figure, Finding, Section, unknown
from worldblocks.diagnose.held_out import shuffled
from worldblocks.diagnose.look import Look
from worldblocks.diagnose.open_loop import (
    CONTEXT,
    LENGTH,
    SAMPLES,
    STEPS,
    decoded,
    images,
    imagined,
    truths,
    vector_keys,
    vectors,
)
from worldblocks.diagnose.pictures import strip
from worldblocks.replay import Batch
from worldblocks.run.video import comparison

FEWEST = 4  # windows
BEAT = "at 15 steps below repeating the last row and below the mean; amber: at 5 steps only"
OBEY = "error with shuffled actions higher by more than two standard errors"
SEEN = "of rows the model has just seen: below half of the mean's error; amber: below it"
SHOWN = (0, 1, 2, 3, 5, 7, 9, 12, 15)  # steps of the picture strip; 0 is the last row seen


class Predicted(NamedTuple):
    """Windows of observations and what is predicted for them, by observation key."""

    truth: dict[str, Tensor]
    right: dict[str, Tensor]  # open loop, with the actions that were taken
    wrong: dict[str, Tensor]  # with shuffled actions
    seen: dict[str, Tensor]  # decoded from states that saw each row


@torch.no_grad()
def section(look: Look) -> Section:
    """Open-loop error by horizon against guesses that need no model."""
    title = "Open-loop prediction"
    question = (
        f"The model sees {CONTEXT} rows of an episode it was not trained on, then imagines "
        f"{STEPS} more from the actions alone. Does it know better than someone without a model?"
    )
    if look.cuts is None or len(look.cuts.reward) < FEWEST:
        found = 0 if look.cuts is None else len(look.cuts.reward)
        reason = (
            f"{found} windows of {LENGTH} rows within one episode, {FEWEST} are needed: give "
            f"more --steps, or the episodes are shorter than that"
        )
        return Section("prediction", title, question, [unknown("error", reason, BEAT)], [])
    parts = predict(look, look.cuts)
    findings: list[Finding] = []
    figures: list[Figure] = []
    for kind, join in (("image", images), ("vector", vectors)):
        if look.agent.encoder.image_keys if kind == "image" else vector_keys(look.agent):
            joined = [join(look.agent, part) for part in parts]
            findings += judge(kind, look.cuts, *joined)
            figures.append(curve(kind, *joined))
    if look.agent.encoder.image_keys:
        figures.append(frames(images(look.agent, parts.truth), images(look.agent, parts.right)))
    if keys := vector_keys(look.agent):
        figures += traces(keys, parts)
        if len(keys) > 1:
            figures.append(by_key(keys, parts))
    return Section("prediction", title, question, findings, figures)


def predict(look: Look, cuts: Batch) -> Predicted:
    """All four from one set of windows."""
    agent = look.agent
    right = imagined(agent, cuts, cuts.prev_action, SAMPLES)
    wrong = imagined(agent, cuts, shuffled(cuts.prev_action), SAMPLES)
    post = agent.rssm.observe(cuts.carry, agent.encoder(cuts.obs), cuts.prev_action, cuts.is_first)
    return Predicted(truths(agent, cuts), right, wrong, decoded(agent, post))


def errors(
    guess: Float[Tensor, "..."], truth: Float[Tensor, "..."]
) -> Float[Tensor, "batch steps"]:
    """Mean squared error of each imagined row."""
    return (guess - truth)[:, CONTEXT:].float().square().flatten(2).mean(2)


def guesses(truth: Float[Tensor, "..."]) -> tuple[Tensor, Tensor]:
    """What needs no model: the last row seen, and the mean of all rows (of these very episodes)."""
    return truth[:, CONTEXT - 1 : CONTEXT].expand_as(truth), truth.mean((0, 1)).expand_as(truth)


def judge(
    kind: str, cuts: Batch, truth: Tensor, right: Tensor, wrong: Tensor, seen: Tensor
) -> list[Finding]:
    """The three lights of one kind of observation."""
    name = f"{kind} error {STEPS} steps ahead"
    each, bad = errors(right, truth), errors(wrong, truth)
    last, mean = (errors(guess, truth).mean(0) for guess in guesses(truth))
    best, error = torch.minimum(last, mean), each.mean(0)
    if float(best[-1]) < 1e-8:
        return [unknown(name, f"nothing changes within {STEPS} steps: any guess is right", BEAT)]
    light = "green" if error[-1] < best[-1] else "amber" if error[4] < best[4] else "red"
    number = f"{error[-1]:.3g}, best guess {best[-1]:.3g} (×{error[-1] / best[-1]:.2f})"
    symptom = "" if light == "green" else "guessing"
    findings = [Finding(name, light, number, BEAT, symptom)]
    findings.append(_actions(kind, cuts, each[:, -1], bad[:, -1]))
    ratio = float(errors(seen, truth).mean() / mean.mean())
    light = "green" if ratio < 0.5 else "amber" if ratio < 1 else "red"
    symptom = "" if light == "green" else "blind"
    name = f"{kind} error of rows it sees"
    return [*findings, Finding(name, light, f"×{ratio:.2f} of the mean's error", SEEN, symptom)]


def _actions(kind: str, cuts: Batch, right: Tensor, wrong: Tensor) -> Finding:
    name = f"{kind} error with the true actions"
    if float(cuts.prev_action[:, CONTEXT:].std((0, 1)).max()) < 1e-3:
        return unknown(name, "the agent always does the same: shuffling changes nothing", OBEY)
    gap = wrong - right
    doubt = 2 * float(gap.std(correction=0)) / len(gap) ** 0.5
    passed = float(gap.mean()) > doubt
    number = f"{right.mean():.3g}, shuffled {wrong.mean():.3g} (gap {gap.mean():.2g} ± {doubt:.2g})"
    return Finding(name, "green" if passed else "red", number, OBEY, "" if passed else "deaf")


def curve(kind: str, truth: Tensor, right: Tensor, wrong: Tensor, seen: Tensor) -> Figure:
    """Error by horizon."""
    last, mean = guesses(truth)
    lines = [(right, "model", False), (wrong, "shuffled actions", False)]
    lines += [(last, "repeat last", True), (mean, "mean", True), (seen, "row seen", True)]
    steps = list(range(1, STEPS + 1))
    heights = [errors(guess, truth).mean(0).tolist() for guess, _, _ in lines]
    labels = ("steps ahead", f"mean squared {kind} error")
    chart = Chart(steps, [0.0, *sum(heights, [])], labels)
    for colour, (height, (_, name, dash)) in reversed(
        list(enumerate(zip(heights, lines, strict=True)))
    ):
        chart.line(steps, height, colour, name, dash)
    chart.legend.reverse()
    space = "pixels in [0, 1]" if kind == "image" else "numbers as symlog, classes as one-hots"
    return Figure(
        chart.html(f"open-loop {kind} error by horizon"),
        f"Error by horizon ({space}; mean of {SAMPLES} imagined futures, {len(truth)} windows). "
        f"“Row seen” is the decoder's own error: the model cannot be below it for long.",
    )


def frames(truth: Tensor, right: Tensor) -> Figure:
    """Truth, imagination and error of two windows."""
    columns = [CONTEXT - 1 + step for step in SHOWN]
    # The windows in which most happens.
    motion = (truth[:, CONTEXT:] - truth[:, CONTEXT - 1 : CONTEXT]).square().flatten(1).mean(1)
    chosen = motion.topk(min(2, len(truth))).indices
    rows = comparison(truth[chosen][:, columns], right[chosen][:, columns])
    names = ["truth", "imagined", "error"] * len(chosen)
    pictures = [row[n] for n in range(len(chosen)) for row in rows]
    picture = strip(pictures, names, ["seen", *(f"+{s}" for s in SHOWN[1:])], "imagined frames")
    caption = (
        f"The two windows in which most happens. Imagined frames are the mean of {SAMPLES} futures: "
        f"what is uncertain is blurred. Error from black (0) to pale yellow (half of the range)."
    )
    return Figure(picture, caption, wide=True)


def traces(keys: list[str], parts: Predicted) -> list[Figure]:
    """Truth and imagination of the four numbers that vary most, in one window."""
    spread = [
        (float(parts.truth[key][..., n].std(1).mean()), key, n)
        for key in keys
        for n in range(parts.truth[key].shape[-1])
    ]
    figures = []
    for _, key, n in sorted(spread, reverse=True)[:4]:
        truth, right, wrong = (part[key][..., n] for part in parts[:3])
        chosen = int(truth.std(1).argmax())
        rows = list(range(-CONTEXT + 1, STEPS + 1))
        lines = [line[chosen].tolist() for line in (truth, right, wrong)]
        chart = Chart(rows, sum(lines, []), ("steps ahead", f"{key}[{n}]"), height=180)
        chart.shade(rows[0], 0, "seen")
        for colour, name in ((1, "shuffled actions"), (0, "imagined")):
            chart.line(rows, lines[2 if colour else 1], colour, name, dash=True)
        chart.line(rows, lines[0], 5, "truth")
        caption = f"{key}[{n}], in the window in which it varies most."
        figures.append(Figure(chart.html(f"{key}, number {n}"), caption))
    return figures


def by_key(keys: list[str], parts: Predicted) -> Figure:
    """Error of each observation against the best guess, the worst first."""
    rows = []
    for key in keys:
        error = errors(parts.right[key], parts.truth[key]).mean(0)
        last, mean = (
            errors(guess, parts.truth[key]).mean(0) for guess in guesses(parts.truth[key])
        )
        ratio = error / torch.minimum(last, mean).clamp(min=1e-12)
        rows.append((float(ratio[-1]), key, ratio, float(error[-1])))
    lines = [
        f"<tr><th>{escape(key)}</th><td>{error:.3g}</td>"
        + "".join(f"<td>×{ratio[step - 1]:.2f}</td>" for step in (1, 5, 15))
        + "</tr>"
        for _, key, ratio, error in sorted(rows, reverse=True)[:24]
    ]
    head = "<tr><th></th><th>error at 15</th><th>+1</th><th>+5</th><th>+15</th></tr>"
    caption = "Error of each observation as a multiple of the best guess's, the worst first."
    return Figure(f"<table>{head}{''.join(lines)}</table>", caption, wide=True)
