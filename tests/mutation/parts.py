"""What is mutated, and the tests that are to notice."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "worldblocks"


class Part(NamedTuple):
    """Files of `src/worldblocks`, and the tests that concern them (their doctests always do)."""

    source: str
    tests: tuple[str, ...]

    def files(self) -> list[Path]:
        """The files that are mutated."""
        path = SRC / self.source
        return sorted(path.glob("*.py")) if path.is_dir() else [path]

    def paths(self) -> list[str]:
        """What pytest is to collect."""
        return [*(f"tests/{name}" for name in self.tests), f"src/worldblocks/{self.source}"]


PARTS = {
    "transforms": Part("transforms.py", ("test_transforms.py", "test_learnable_symlog.py")),
    "returns": Part("returns", ("test_returns.py", "test_return_estimators.py")),
    "losses": Part("losses.py", ("test_losses.py", "distributions/test_divergence.py")),
    "distributions": Part("distributions", ("distributions", "test_losses.py")),
    "rssm": Part("rssm", ("rssm",)),
    "replay": Part("replay", ("replay",)),
}
