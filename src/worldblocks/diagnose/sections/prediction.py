"""Section 1: what the world model predicts, 1 to 15 steps after the last row it saw."""

from html import escape
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Finding, Section, graded, unknown
from worldblocks.diagnose.inputs import Look, Predicted
from worldblocks.diagnose.page.charts import Chart
from worldblocks.diagnose.page.images import strip
from worldblocks.diagnose.rollouts import (
    CONTEXT,
    LENGTH,
    SAMPLES,
    STEPS,
    images,
    vector_keys,
    vectors,
)
from worldblocks.replay import Batch
from worldblocks.run.video import comparison

FEWEST = 4  # windows
BEAT = "green to ×0.9 of the best guess (repeating, or the mean); amber to ×1, or at 1 to 5 steps"
OBEY = "error at 15 steps with shuffled actions higher by more than two standard errors"
SEEN = "of rows the model has just seen: below half of the mean's error; amber: below it"
FIVES = ((0, 5), (STEPS - 5, STEPS))  # the first and the last imagined steps
SHOWN = (0, 1, 2, 3, 5, 7, 9, 12, 15)  # steps of the picture strip; 0 is the last row seen


@torch.no_grad()
def section(look: Look) -> Section:
    """Open-loop error by horizon against guesses that need no model."""
    title = "Open-loop prediction"
    question = (
        f"The model sees {CONTEXT} rows of an episode it was not trained on, then imagines "
        f"{STEPS} more from the actions alone. Does it know better than someone without a model?"
    )
    cuts, parts = look.cuts, look.predicted
    if cuts is None or parts is None or len(cuts.reward) < FEWEST:
        count = 0 if cuts is None else len(cuts.reward)
        reason = (
            f"{count} windows of {LENGTH} rows within one episode, {FEWEST} are needed: give "
            f"more --steps, or the episodes are shorter than that"
        )
        return Section("prediction", title, question, [unknown("error", reason, BEAT)], [])
    findings: list[Finding] = []
    figures: list[Figure] = []
    for kind, join in (("image", images), ("vector", vectors)):
        if look.agent.encoder.image_keys if kind == "image" else vector_keys(look.agent):
            joined = [join(look.agent, part) for part in parts[:4]]
            findings += found(kind, cuts, *joined)
            figures.append(curve(kind, *joined))
    if look.agent.encoder.image_keys:
        figures.append(frames(images(look.agent, parts.truth), images(look.agent, parts.right)))
    if keys := vector_keys(look.agent):
        figures += traces(keys, parts)
        figures.append(by_part(keys, parts))
    return Section("prediction", title, question, findings, figures)


def errors(
    guess: Float[Tensor, "..."], truth: Float[Tensor, "..."]
) -> Float[Tensor, "batch steps"]:
    """Mean squared error of each imagined row."""
    return (guess - truth)[:, CONTEXT:].float().square().flatten(2).mean(2)


def guesses(truth: Float[Tensor, "..."]) -> tuple[Tensor, Tensor]:
    """What needs no model: the last row seen, and the mean of all rows (of these very episodes)."""
    return truth[:, CONTEXT - 1 : CONTEXT].expand_as(truth), truth.mean((0, 1)).expand_as(truth)


def found(
    kind: str, cuts: Batch, truth: Tensor, right: Tensor, wrong: Tensor, seen: Tensor
) -> list[Finding]:
    """The three lights of one kind of observation."""
    name = f"{kind} error 11 to {STEPS} steps ahead"
    each, bad = errors(right, truth), errors(wrong, truth)
    last, mean = (errors(guess, truth).mean(0) for guess in guesses(truth))
    # Over five steps each: one alone is noise where there are few windows.
    best = [min(float(last[i:j].mean()), float(mean[i:j].mean())) for i, j in FIVES]
    error = [float(each[:, i:j].mean()) for i, j in FIVES]
    if best[-1] < 1e-8:
        return [unknown(name, f"nothing changes within {STEPS} steps: any guess is right", BEAT)]
    ratio = error[1] / best[1]
    light = "amber" if error[0] < best[0] and not ratio <= 0.9 else graded(ratio, 0.9, 1.0)
    number = f"{error[1]:.3g}, best guess {best[1]:.3g} (×{ratio:.2f})"
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
    chart = Chart(steps, [0.0, *chain(*heights)], labels)
    for colour in reversed(range(len(lines))):  # the model on top
        chart.line(steps, heights[colour], colour, *lines[colour][1:])
    chart.legend.reverse()
    space = "pixels in [0, 1]" if kind == "image" else "numbers as symlog, classes as one-hots"
    return Figure(
        chart.html(f"open-loop {kind} error by horizon"),
        f"Error by horizon ({space}; mean of {SAMPLES} imagined futures, {len(truth)} windows). "
        f"“Row seen” is the decoder's own error on rows that are seen, from one sample.",
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
        f"The windows in which most happens. Imagined frames are the mean of {SAMPLES} futures: "
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
        chosen = int(truth[:, CONTEXT:].std(1).argmax())
        rows = list(range(-CONTEXT + 1, STEPS + 1))
        lines = [line[chosen].tolist() for line in (truth, right, wrong)]
        chart = Chart(rows, [*chain(*lines)], ("steps ahead", f"{key}[{n}]"), height=180)
        chart.shade(rows[0], 0, "seen")
        for colour, name in ((1, "shuffled actions"), (0, "imagined")):
            chart.line(rows, lines[2 if colour else 1], colour, name, dash=True)
        chart.line(rows, lines[0], 5, "truth")
        caption = f"{key}[{n}], in the window in which it varies most."
        figures.append(Figure(chart.html(f"{key}, number {n}"), caption))
    return figures


def by_part(keys: list[str], parts: Predicted) -> Figure:
    """Error of each observation, or of each number of the only one, the worst first."""
    named = {key: (parts.right[key], parts.truth[key]) for key in keys}
    if len(keys) == 1:
        right, truth = named[keys[0]]
        pairs = zip(right.split(1, -1), truth.split(1, -1), strict=True)
        named = {f"{keys[0]}[{n}]": pair for n, pair in enumerate(pairs)}
    rows = []
    for name, (right, truth) in named.items():
        error = errors(right, truth).mean(0)
        last, mean = (errors(guess, truth).mean(0) for guess in guesses(truth))
        best = torch.minimum(last, mean)
        ratios = [
            float(error[k - 1] / best[k - 1]) if best[k - 1] > 1e-8 else 0 for k in (1, 5, 15)
        ]
        cells = "".join(f"<td>{f'×{ratio:.3g}' if ratio else 'still'}</td>" for ratio in ratios)
        line = f"<tr><th>{escape(name)}</th>{cells}<td>{float(error[-1]):.3g}</td></tr>"
        rows.append((ratios[-1], line))
    lines = [line for _, line in sorted(rows, reverse=True)[:24]]
    head = "<tr><th></th><th>+1</th><th>+5</th><th>+15</th><th>error at +15</th></tr>"
    caption = (
        "Error as a multiple of the best guess's, 1, 5 and 15 steps ahead; the worst first. "
        "What is still does not change: any guess is right."
    )
    return Figure(f"<table>{head}{''.join(lines)}</table>", caption)
