"""The update at one point of a sweep, and environments side by side."""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch

import worldblocks as wb
from benchmarks.adapters.fit import count
from benchmarks.adapters.ours import facts, load_recipe, trained, work_of
from benchmarks.adapters.plain import plain_layers
from benchmarks.adapters.torch_tools import flops, prepare
from benchmarks.adapters.updates import assemble, without_autocast
from benchmarks.timing import Timed
from benchmarks.work import IMAGE, Work


def update(work: Work, **knobs: int) -> Timed:
    """The recipe's update; few calls before it is timed, since one may take long."""
    prepare(work.threads)
    one = assemble(work, **knobs)
    functions: dict[str, Callable[[], object]] = {"step": one.step}
    known = {"parameters": trained(one.agent), "warm_calls": 0, **facts()}
    return Timed(functions=functions, **work_of(functions), **known)


def predicted(work: Work) -> Timed:
    """What an update will take: FLOPs, bytes and parameters, counted on the meta device."""
    prepare(work.threads)
    with without_autocast():
        one = assemble(work, device="meta")
        with plain_layers():
            found = {"flops": flops(one.step)}
        found["bytes"] = count(one, IMAGE[0])
        found["parameters"] = trained(one.agent)
    return Timed(values={name: float(value) for name, value in found.items()})


def environments(work: Work, number: int, workers: bool, task: str = "CartPole-v1") -> Timed:
    """A step of so many environments, and an action for each; a time is for one of them."""
    prepare(work.threads)
    recipe = load_recipe()
    make = functools.partial(wb.envs.gym, task)
    envs = wb.envs.EnvVector([make] * number, seed=0, workers=workers)
    cfg = recipe.Config(device="cpu", bf16=False, **work.sizes)
    agent, _ = recipe.build(cfg, envs.observation, envs.action)
    rows, carry = envs.reset(), agent.initial(number)
    random = torch.randint(agent.action_size, (number,))
    action = torch.nn.functional.one_hot(random, agent.action_size).float()
    functions = {
        "env": lambda: envs.step(action),
        "act": lambda: recipe.act(agent, rows.obs, carry, rows.is_first),
    }
    known = {"clock": clock_of_all() if workers else time.process_time, **facts()}
    note = f"{task}; {'workers' if workers else 'in the process'}"
    return Timed(functions=functions, per=dict.fromkeys(functions, number), note=note, **known)


def clock_of_all(proc: Path = Path("/proc")) -> Callable[[], float]:
    """CPU seconds of this process and of the workers it has started; without Linux's figures of
    processes, of this process alone."""
    children = [path for task in proc.glob("self/task/*/children") for path in pids(task)]
    files = [path for child in descendants(children, proc) for path in proc.glob(f"{child}/task/*")]

    def clock() -> float:
        theirs = sum(int((path / "schedstat").read_text().split()[0]) for path in files)
        return time.process_time() + theirs / 1e9

    return clock


def descendants(children: list[str], proc: Path) -> list[str]:
    """Processes, theirs, and so on."""
    found = list(children)
    for child in children:
        own = [pid for task in proc.glob(f"{child}/task/*/children") for pid in pids(task)]
        found += descendants(own, proc)
    return found


def pids(path: Path) -> list[str]:
    """Of a file of children."""
    return path.read_text().split()
