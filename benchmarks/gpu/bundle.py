"""What a machine without network lacks: wheels, unpacked into a folder and cut."""

import fnmatch
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks import ROOT

MIB = 2**20
LIMIT = 50 * MIB  # of the folder and the tracked files together
PACKAGES = (
    "absl-py",
    "beartype",
    "dm-control",
    "dm-env",
    "docstring-parser",
    "glfw",
    "markdown-it-py",
    "mdurl",
    "mujoco",
    "protobuf",
    "Pygments",
    "rich",
    "tensorboard",
    "tqdm",
    "typeguard",
    "typing-extensions",
    "tyro",
)
TARGET = ("--python-version", "3.12", "--implementation", "cp")
GLIBC = ("_2_28", "_2_27", "_2_24", "_2_17", "2014", "1")  # pip takes each as it is written
# What walker_walk never opens, by the first folder of a name in a wheel.
CUT = {
    "*": ("*_test.py", "*/testing/*", "*/testdata/*", "*/tests/*", "*/RECORD", "*/licenses/*"),
    "dm_control": (
        *(f"*/{part}/*" for part in ("blender", "composer", "entities", "locomotion")),
        *(f"*/{part}/*" for part in ("manipulation", "mjcf", "third_party", "viewer")),
        *("*/suite/dog_assets/*", "*/suite/demos/*", "*.png"),
    ),
    "mujoco": (
        *(f"*/{part}/*" for part in ("experimental", "include", "introspect", "mjx")),
        *(f"*/{part}/*" for part in ("plugin", "sysid", "usd")),
        *(f"*/_{part}.*" for part in ("render_filament", "simulate", "rollout", "batch")),
    ),
    "pygments": ("*/lexers/*", "*/formatters/*"),
    "tensorboard": ("*/webfiles.zip", "*/backend/*", "*/_vendor/*", "*.js"),
}
LEFT = "docs/results/agents/"  # trained agents, which nothing there needs


def main(out: Path) -> int:
    """Fetch, unpack, and print the size of everything; 1 where it is too much."""
    with tempfile.TemporaryDirectory() as folder:
        wheels = fetch(Path(folder))
        print(f"{'package':<20} {'wheel':>8} {'unpacked':>9} {'kept':>8}   MiB")
        shutil.rmtree(out, ignore_errors=True)
        for wheel in wheels:
            whole, kept = unpack(wheel, out)
            sizes = f"{mib(wheel.stat().st_size):>8} {mib(whole):>9} {mib(kept):>8}"
            print(f"{wheel.name.split('-')[0]:<20} {sizes}")
    return total(size(out.rglob("*")), size(tracked()))


def total(bundle: int, files: int, limit: int = LIMIT) -> int:
    """Print both and their sum.

    Raises:
        ValueError: the sum is above the limit.
    """
    print(f"bundle {mib(bundle)}, tracked files without agents {mib(files)}", end=", ")
    print(f"together {mib(bundle + files)} of {mib(limit)} MiB", flush=True)
    if bundle + files > limit:
        raise ValueError(
            f"the bundle and the tracked files have {mib(bundle + files)} MiB together, and "
            f"{mib(limit)} may travel: cut more of a package in benchmarks/gpu/bundle.py (CUT)"
        )
    return 0


def pins(constraints: Path = ROOT / "constraints.txt") -> list[str]:
    """The packages as `name==version`.

    Raises:
        ValueError: one is not pinned.
    """
    text = constraints.read_text(encoding="utf-8")
    pinned = {normal(name): version for name, version in re.findall(r"(?m)^(\S+)==(\S+)$", text)}
    if missing := [name for name in PACKAGES if normal(name) not in pinned]:
        raise ValueError(
            f"{constraints.name} does not pin {', '.join(missing)}; the bundle takes its versions "
            f"from there, so add `name==version`"
        )
    return [f"{name}=={pinned[normal(name)]}" for name in PACKAGES]


def normal(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(folder: Path) -> list[Path]:
    """Download the wheels, by name."""
    platforms = [word for glibc in GLIBC for word in ("--platform", f"manylinux{glibc}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", *TARGET, *platforms, "--dest", str(folder), *pins()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"pip could not fetch the wheels: {done.stderr.strip().splitlines()[-1]}")
    return sorted(folder.glob("*.whl"), key=lambda wheel: wheel.name.lower())


def unpack(wheel: Path, out: Path) -> tuple[int, int]:
    """Unpack what is not cut; bytes of all files and of those that were kept."""
    with zipfile.ZipFile(wheel) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        kept = [info for info in files if needed(info.filename)]
        for info in kept:
            archive.extract(info, out)
    return sum(info.file_size for info in files), sum(info.file_size for info in kept)


def needed(name: str) -> bool:
    """Whether a file of a wheel is kept."""
    patterns = (*CUT["*"], *CUT.get(name.partition("/")[0], ()))
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def tracked(root: Path = ROOT) -> list[Path]:
    """Files that git tracks, trained agents left out."""
    command = ["git", "-C", str(root), "ls-files", "-z"]
    named = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [root / name for name in named if name and not name.startswith(LEFT)]


def size(paths: Iterable[Path]) -> int:
    """Bytes of the files among the paths."""
    return sum(path.stat().st_size for path in paths if path.is_file())


def mib(count: int) -> str:
    """Bytes in MiB, in words."""
    return f"{count / MIB:.1f}"
