"""The command: run the blocks on every recorded file and print one table."""

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import torch

from golden_folder import GOLDEN
from parity import (
    agent,
    dynamics,
    experience,
    functions,
    layers,
    learning,
    policies,
    table,
    training,
)
from parity.arrays import Arrays
from parity.recipe import RECIPE
from parity.record import Check, Row

Checks = Callable[[Arrays], Iterator[Check]]


def families(recipe: Path) -> list[tuple[str, str, Checks]]:
    """Group, pattern of its file names, and the function that compares a file."""
    return [
        ("a", "a_symlog", functions.symlog_checks),
        ("a", "a_twohot", functions.two_hot_checks),
        ("b", "b_lambda_return", functions.return_checks),
        ("c", "c_onehot_kl", functions.one_hot_checks),
        ("d", "d_rssm_*", dynamics.rssm_checks),
        ("e", "e_layers", layers.layer_checks),
        ("e", "e_init_stats", layers.init_checks),
        ("e", "e_encdec_*", layers.encoder_checks),
        ("f", "f_blockgru_*", dynamics.core_checks),
        ("g", "g_optimizer", training.optimizer_checks),
        ("h", "h_normalize", training.normalize_checks),
        ("h", "h_slowmodel", training.slow_checks),
        ("i", "i_policies", policies.checks),
        ("j", "j_imag_loss", learning.imagined_checks),
        ("j", "j_repl_loss", learning.replayed_checks),
        ("k", "k_agent_*", functools.partial(agent.checks, recipe=recipe)),
        ("l", "l_replay", experience.replay_checks),
        ("m", "m_atari_image", experience.image_checks),
    ]


def checks(golden: Path, recipe: Path, groups: Iterable[str] = "") -> Iterator[Check]:
    """Every comparison of the files in a folder, or of some groups only.

    A family without a file becomes a comparison that fails with that message.
    """
    for group, pattern, family in families(recipe):
        if groups and group not in groups:
            continue
        files = sorted(golden.glob(f"{pattern}.npz"))
        if not files:
            yield Check(group, pattern, "-", functools.partial(_absent, golden, pattern))
        for file in files:
            try:
                yield from family(Arrays.load(file))
            except (BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
                broken = functools.partial(_unreadable, file, error)
                yield Check(group, file.stem, "-", broken)


def _unreadable(file: Path, error: Exception, _: object) -> None:
    raise ValueError(f"{file} cannot be read: {error}") from error


def _absent(golden: Path, pattern: str, _: object) -> None:
    raise FileNotFoundError(f"there is no {pattern}.npz in {golden}")


def notes(golden: Path) -> list[str]:
    """The recorded options that are not compared because the library does not offer them."""
    lines = []
    for path in sorted(golden.glob("g_optimizer.npz")):
        if names := training.not_offered(Arrays.load(path)):
            options = ", ".join(names)
            lines.append(f"Not compared: {path.stem} {options}; these options are not offered.")
    return lines


def run(
    golden: Path, recipe: Path, groups: Iterable[str] = "", *, device: str = "cpu"
) -> list[Row]:
    """Run every comparison, with all blocks on one device."""
    with torch.device(device):
        return [check.row() for check in checks(golden, recipe, groups)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if every row is within tolerance, else 1."""
    parser = argparse.ArgumentParser(
        prog="python tests/parity",
        description="Compare the blocks with recorded outputs of the official DreamerV3.",
    )
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder of recorded arrays")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="recipe of group k")
    parser.add_argument("--groups", default="", help="only these groups, such as abk")
    parser.add_argument("--device", default="cpu", help="device of the blocks, such as cuda")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    options = parser.parse_args(arguments)
    golden = options.golden
    if not golden.is_dir():
        parser.error(f"no recorded arrays at {golden}: --golden takes a folder")
    rows = run(golden, options.recipe, options.groups, device=options.device)
    if options.markdown:
        print(table.markdown(rows, notes(golden)))
        print(*[line for line in table.summary(rows) if "FAIL" in line], sep="\n", file=sys.stderr)
    else:
        print(table.text(rows, notes(golden)))
    return 0 if table.passed(rows) else 1
