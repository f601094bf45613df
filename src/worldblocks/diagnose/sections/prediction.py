"""Open-loop prediction: the error 1 to 15 steps after the last observed row."""

from html import escape
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.comparisons import paired_gap
from worldblocks.diagnose.finding import Figure, Finding, Section, graded, judged, unknown
from worldblocks.diagnose.inputs import Inputs, Predictions
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
BASELINE = (
    "green up to ×0.9 of the best baseline (repeat the last row, or the mean); amber up to ×1, or "
    "if only steps 1 to 5 beat it"
)
ACTIONS = "at 15 steps, the error with shuffled actions is higher by over two standard errors"
RECONSTRUCTION = "error on observed rows over that of the mean; green below ×0.5, amber below ×1"
FIVES = ((0, 5), (STEPS - 5, STEPS))  # the first and the last imagined steps
SHOWN = (0, 1, 2, 3, 5, 7, 9, 12, 15)  # steps of the frame strip; 0 is the last observed row


@torch.no_grad()
def section(inputs: Inputs) -> Section:
    """Open-loop error by horizon, compared with model-free baselines."""
    key, title = "prediction", "Open-loop prediction"
    question = (
        f"The model observes {CONTEXT} rows of an episode it was not trained on, then imagines "
        f"{STEPS} more from the actions alone. Does it predict better than a model-free guess?"
    )
    cuts, parts = inputs.windows, inputs.predictions
    if cuts is None or parts is None or len(cuts.reward) < FEWEST:
        count = 0 if cuts is None else len(cuts.reward)
        reason = (
            f"only {count} windows of {LENGTH} rows fit into an episode, {FEWEST} are needed: "
            f"increase --steps, or the episodes are too short"
        )
        return Section(key, title, question, [unknown("error", reason, BASELINE)], [])
    agent = inputs.agent
    findings: list[Finding] = []
    figures: list[Figure] = []
    image_keys, keys = agent.encoder.image_keys, vector_keys(agent)
    for kind, join, present in (("image", images, image_keys), ("vector", vectors, keys)):
        if present:
            joined = [join(agent, part) for part in parts[:4]]
            findings += found(kind, cuts, *joined)
            figures.append(curve(kind, *joined))
    if image_keys:
        figures.append(frames(images(agent, parts.truth), images(agent, parts.imagined)))
    if keys:
        figures += traces(keys, parts)
        figures.append(by_part(keys, parts))
    return Section(key, title, question, findings, figures)


def errors(
    guess: Float[Tensor, "..."], truth: Float[Tensor, "..."]
) -> Float[Tensor, "batch steps"]:
    """Mean squared error of each imagined row."""
    return (guess - truth)[:, CONTEXT:].float().square().flatten(2).mean(2)


def baselines(truth: Float[Tensor, "..."]) -> tuple[Tensor, Tensor]:
    """Errors by step of two model-free guesses: the last observed row, and the mean of `truth`."""
    guesses = truth[:, CONTEXT - 1 : CONTEXT], truth.mean((0, 1))
    last, mean = (errors(guess, truth).mean(0) for guess in guesses)
    return last, mean


def found(
    kind: str,
    cuts: Batch,
    truth: Tensor,
    imagined: Tensor,
    shuffled: Tensor,
    reconstructed: Tensor,
) -> list[Finding]:
    """The three findings about one kind of observation."""
    name = f"{kind} error 11 to {STEPS} steps ahead"
    each = errors(imagined, truth)
    last, mean = baselines(truth)
    # Means over five steps: a single one is too noisy with few windows.
    best = [min(float(last[i:j].mean()), float(mean[i:j].mean())) for i, j in FIVES]
    error = [float(each[:, i:j].mean()) for i, j in FIVES]
    if best[-1] < 1e-8:
        reason = f"nothing changes within {STEPS} steps, so every guess is right"
        return [unknown(name, reason, BASELINE)]
    ratio = error[1] / best[1]
    light = "amber" if error[0] < best[0] and not ratio <= 0.9 else graded(ratio, 0.9, 1.0)
    number = f"{error[1]:.3g}, best baseline {best[1]:.3g} (×{ratio:.2f})"
    ahead = judged(name, light, number, BASELINE, "baseline")
    ratio = float(errors(reconstructed, truth).mean() / mean.mean())
    light = "green" if ratio < 0.5 else "amber" if ratio < 1 else "red"
    name, number = f"{kind} reconstruction error", f"×{ratio:.2f} of the mean's error"
    return [
        ahead,
        _actions(kind, cuts, each[:, -1], errors(shuffled, truth)[:, -1]),
        judged(name, light, number, RECONSTRUCTION, "reconstruction"),
    ]


def _actions(kind: str, cuts: Batch, right: Tensor, wrong: Tensor) -> Finding:
    name = f"{kind} error with the true actions"
    if float(cuts.prev_action[:, CONTEXT:].std((0, 1)).max()) < 1e-3:
        reason = "the agent always takes the same action, so shuffling changes nothing"
        return unknown(name, reason, ACTIONS)
    gap, margin = paired_gap(right, wrong)
    light = "green" if gap > margin else "red"
    number = f"{right.mean():.3g}, shuffled {wrong.mean():.3g} (gap {gap:.2g} ± {margin:.2g})"
    return judged(name, light, number, ACTIONS, "actions")


def curve(
    kind: str, truth: Tensor, imagined: Tensor, shuffled: Tensor, reconstructed: Tensor
) -> Figure:
    """Error by horizon."""
    last, mean = baselines(truth)
    lines = [
        (errors(imagined, truth).mean(0), "model", False),
        (errors(shuffled, truth).mean(0), "shuffled actions", False),
        (last, "repeat last", True),
        (mean, "mean", True),
        (errors(reconstructed, truth).mean(0), "reconstruction", True),
    ]
    steps = list(range(1, STEPS + 1))
    heights = [line.tolist() for line, _, _ in lines]
    labels = ("steps ahead", f"mean squared {kind} error")
    chart = Chart(steps, [0.0, *chain(*heights)], labels)
    for colour in reversed(range(len(lines))):  # the model on top
        chart.line(steps, heights[colour], colour, *lines[colour][1:])
    chart.legend.reverse()
    space = "pixels in [0, 1]" if kind == "image" else "symlog numbers and one-hot classes"
    return Figure(
        chart.html(f"open-loop {kind} error by horizon"),
        f"Error by horizon ({space}; mean of {SAMPLES} imagined futures, {len(truth)} windows). "
        f"“Reconstruction” is the decoder's error on observed rows, from one sample.",
    )


def frames(truth: Tensor, imagined: Tensor) -> Figure:
    """Truth, imagination and error in the two windows with the most motion."""
    columns = [CONTEXT - 1 + step for step in SHOWN]
    motion = (truth[:, CONTEXT:] - truth[:, CONTEXT - 1 : CONTEXT]).square().flatten(1).mean(1)
    chosen = motion.topk(min(2, len(truth))).indices
    rows = comparison(truth[chosen][:, columns], imagined[chosen][:, columns])
    names = ["truth", "imagined", "error"] * len(chosen)
    pictures = [row[n] for n in range(len(chosen)) for row in rows]
    titles = ["observed", *(f"+{s}" for s in SHOWN[1:])]
    caption = (
        f"The windows with the most motion. Imagined frames are the mean of {SAMPLES} futures, so "
        f"uncertain parts are blurred. Error from black (0) to pale yellow (half of the range)."
    )
    return Figure(strip(pictures, names, titles, "imagined frames"), caption, wide=True)


def traces(keys: list[str], parts: Predictions) -> list[Figure]:
    """Truth and imagination of the four entries with the largest variation, in one window."""
    spread = [
        (float(parts.truth[key][..., n].std(1).mean()), key, n)
        for key in keys
        for n in range(parts.truth[key].shape[-1])
    ]
    figures = []
    for _, key, n in sorted(spread, reverse=True)[:4]:
        truth, imagined, shuffled = (part[key][..., n] for part in parts[:3])
        chosen = int(truth[:, CONTEXT:].std(1).argmax())
        rows = list(range(-CONTEXT + 1, STEPS + 1))
        lines = [line[chosen].tolist() for line in (shuffled, imagined, truth)]
        chart = Chart(rows, [*chain(*lines)], ("steps ahead", f"{key}[{n}]"), height=180)
        chart.shade(rows[0], 0, "observed")
        chart.line(rows, lines[0], 1, "shuffled actions", dash=True)
        chart.line(rows, lines[1], 0, "imagined", dash=True)
        chart.line(rows, lines[2], 5, "truth")
        caption = f"{key}[{n}], in the window in which it varies most."
        figures.append(Figure(chart.html(f"{key}, entry {n}"), caption))
    return figures


def by_part(keys: list[str], parts: Predictions) -> Figure:
    """Error of each observation, or of each entry of a single one, the largest first."""
    named = {key: (parts.imagined[key], parts.truth[key]) for key in keys}
    if len(keys) == 1:
        imagined, truth = named[keys[0]]
        pairs = zip(imagined.split(1, -1), truth.split(1, -1), strict=True)
        named = {f"{keys[0]}[{n}]": pair for n, pair in enumerate(pairs)}
    rows = []
    for name, (imagined, truth) in named.items():
        error = errors(imagined, truth).mean(0)
        best = torch.minimum(*baselines(truth))
        ratios = [
            float(error[k - 1] / best[k - 1]) if best[k - 1] > 1e-8 else 0 for k in (1, 5, 15)
        ]
        cells = "".join(f"<td>{f'×{ratio:.3g}' if ratio else 'constant'}</td>" for ratio in ratios)
        line = f"<tr><th>{escape(name)}</th>{cells}<td>{float(error[-1]):.3g}</td></tr>"
        rows.append((ratios[-1], line))
    lines = [line for _, line in sorted(rows, reverse=True)[:24]]
    head = "<tr><th></th><th>+1</th><th>+5</th><th>+15</th><th>error at +15</th></tr>"
    caption = (
        "Error relative to the best baseline, 1, 5 and 15 steps ahead, largest first. "
        "“Constant” entries do not change, so every guess is right."
    )
    return Figure(f"<table>{head}{''.join(lines)}</table>", caption)
