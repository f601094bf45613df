"""What it costs to import a library, and what comes with it."""

from benchmarks.groups.group import Group, ours, peer
from benchmarks.jobs import Job
from benchmarks.options import Options
from benchmarks.work import Work

ADAPTER = "benchmarks.adapters.imports:fresh"

# By case: one block is the λ-return; an agent is what the library's agents import of it.
STATEMENTS = {
    "worldblocks": {
        "block": "from worldblocks.returns import lambda_return",
        "agent": "from worldblocks import ema, encoders, decoders, heads, normalize, optim, rssm; "
        "from worldblocks import diagnose, envs, losses, replay, returns, run",
    },
    "torch": {"block": "import torch", "agent": "import torch"},
    "torchrl": {
        "block": "from torchrl.objectives.value.functional import td_lambda_return_estimate",
        "agent": "import torchrl.data, torchrl.envs, torchrl.modules, torchrl.objectives",
    },
    "sheeprl": {
        "block": "from sheeprl.algos.dreamer_v3.utils import compute_lambda_values",
        "agent": "import sheeprl.algos.dreamer_v3.dreamer_v3",
    },
    "stable-baselines3": {"agent": "import stable_baselines3"},
}


def cases(work: Work) -> dict[str, str]:
    """Times of a fresh process, then the packages."""
    return {
        "block": "import one block, fresh process",
        "agent": "import all that an agent needs, fresh process",
        "update": f"import, build, first update ({work.size}, {work.batch} × {work.length}), "
        "fresh process",
        "packages": "packages that it installs, itself included",
    }


def jobs(options: Options) -> list[Job]:
    """The packages of the index; torch alone is the floor."""
    own = statements("worldblocks")
    own["statements"] = {**STATEMENTS["worldblocks"], "update": first_update(options.work())}
    found = [ours(options, ADAPTER, arguments=own)]
    for name in list(STATEMENTS)[1:]:
        found += peer(options, name, ADAPTER, arguments=statements(name))
    return found


def first_update(work: Work) -> str:
    """The recipe's agent is built, and learns once."""
    sizes = [f"size={work.size!r}"]
    names = ("threads", "batch", "length", "horizon")
    sizes += [f"{name}={getattr(work, name)}" for name in names]
    return (
        "from benchmarks.adapters import torch_tools, updates; from benchmarks.work import Work; "
        f"work = Work({', '.join(sizes)}); torch_tools.prepare(work.threads); "
        "updates.assemble(work).step()"
    )


def statements(name: str) -> dict[str, object]:
    """Of the adapter."""
    return {"distribution": name, "statements": STATEMENTS[name]}


IMPORTS = Group(
    name="import",
    title="Import",
    about=(
        "Time of a new interpreter that imports and ends. The first update is that of the Atari "
        "recipe, on random images, from the start of the process to its end. Packages are the "
        "requirements of the distribution and theirs, as installed, without extras."
    ),
    cases=cases,
    jobs=jobs,
    units={"block": "s", "agent": "s", "update": "s", "packages": ""},
    rounds=3,
)
