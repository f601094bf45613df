"""The sizes of the work, the same for every contestant of a case. No third-party import."""

from dataclasses import dataclass

ACTIONS = 6
IMAGE = (64, 64, 3)
PROPRIO = 24  # numbers in the vector observation of the replay group

UNITS = {"1m": 64, "12m": 256, "25m": 384, "50m": 512, "100m": 768, "200m": 1024}

# The sizes of the official configuration file.
SIZES = {
    f"size{name}": {
        "deter": 8 * units,
        "hidden": units,
        "classes": units // 16,
        "depth": units // 16,
        "units": units,
    }
    for name, units in UNITS.items()
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Sizes of everything that is measured; each subject reads its own."""

    threads: int = 1

    # update, rssm
    size: str = "size1m"
    batch: int = 4
    length: int = 32
    horizon: int = 15
    observe: tuple[int, int] = (16, 64)  # batch and time
    imagine: int = 1024  # rows from which imagination starts

    # returns: time × batch
    returns: tuple[tuple[int, int], ...] = ((64, 1024), (16, 64))

    # replay
    streams: int = 8
    sample: tuple[int, int] = (16, 64)  # windows and rows of each
    image_steps: int = 100_000
    proprio_steps: int = 1_000_000

    def words(self) -> str:
        """The sizes of an update."""
        return f"{self.size}, {self.batch} × {self.length}, horizon {self.horizon}"

    @property
    def sizes(self) -> dict[str, int]:
        """Widths of the model."""
        if self.size not in SIZES:
            raise ValueError(f"unknown size {self.size!r}; known are {', '.join(SIZES)}")
        return SIZES[self.size]
