"""Our blocks keep the promises that we ask of other people's."""

import pytest
from suites import SUITES

from test_house import BLOCKS, public_names
from worldblocks.testing import promises
from worldblocks.testing.promise import choose, searching

# Public names without a suite, and why.
LAYER = "a layer inside a block: tests/test_layers.py"
RUN = "bookkeeping of a run: tests/run"
CONTAINER = "a container, whose fields are those of what is tested"
PROTOCOL = "a protocol: what is written of a part, not a part"
SHARES = "shares of a batch: tests/tasks/test_task_sampling.py"
PLAYED = "several tasks: tests/tasks/test_suite.py"
REASONS = {
    "transforms": "functions of numbers: identities and oracles in tests/test_transforms.py and "
    "tests/test_learnable_symlog.py",
    "balance": "numbers times losses, by the formulas and their optima: tests/test_balance.py",
    "layers": LAYER,
    "run": RUN,
    "replay.episode_from_numpy": "by hand and round trips: tests/replay/test_replay_data.py",
    "replay.observation_spaces": "by hand: tests/replay/test_replay_data.py",
    "replay.read_minari": "round trips: tests/replay/test_replay_data.py",
    "replay.read_npz": "round trips: tests/replay/test_replay_data.py",
    "replay.write_npz": "round trips: tests/replay/test_replay_data.py",
    "recipes": "a command that lists and copies files: tests/test_recipes.py",
    "envs.DmEnvironment": "what dm_env builds: tests/envs/test_dm_env.py",
    "envs.dm_env": "an adapter of environments: tests/envs/test_dm_env.py",
    "envs.spaces_of": "a conversion, by hand: tests/test_wrong_calls.py",
    "evaluate": "episodes and scores: tests/evaluate",
    "diagnose": "reports about agents: tests/diagnose",
    "language": "text, data and rankings: tests/language, by hand, oracles and hostile input",
    "interop": "weights from files: tests/test_interop.py and the parity table",
    "losses.gaussian_kl": "one formula, against its integral in tests/test_losses.py",
    "losses.on_rows": "a masked mean: tests/test_losses.py",
    "optim.remove_parameters": "bookkeeping of an optimiser: tests/test_optim.py",
    "replay.Mixture": CONTAINER,
    "replay.MixtureReplay": "replays of which each has a suite: tests/replay/test_mixture.py",
    "replay.Labels": CONTAINER,
    "replay.labelled": "by hand: tests/recipes/test_glam.py",
    "replay.Relabel": CONTAINER,
    "replay.relabel": "by hand: tests/language/test_imagined.py, tests/replay/test_mixture.py",
    "tasks.LearningProgress": SHARES,
    "tasks.OneTask": "a view of modules: tests/tasks/test_task_heads.py",
    "tasks.TaskEnvironments": PLAYED,
    "tasks.Proportional": SHARES,
    "tasks.Slots": "by hand and against a list: tests/tasks/test_slots.py",
    "tasks.TaskSuite": PLAYED,
    "tasks.TaskHeads": "a shelf of heads: tests/tasks/test_task_heads.py",
    "tasks.TaskSampler": SHARES,
    "tasks.balanced": SHARES,
    "tasks.control": "a simulator: tests/tasks/test_task_rewards.py",
    "tasks.control_reward": "formulas, against the simulator: tests/tasks/test_task_rewards.py",
    "tasks.judge": PLAYED,
    "tasks.plot_tasks": "a picture: tests/tasks/test_task_rewards.py",
    "tasks.principal_axes": "by hand and by identities: tests/tasks/test_task_rewards.py",
    "tasks.set_tasks": PLAYED,
    "tasks.renew": "by hand: tests/tasks/test_slots.py",
    "tasks.seen": PLAYED,
    "tasks.chosen_task": PLAYED,
    "tasks.tasks_of": PLAYED,
    "tasks.changes": PLAYED,
    "tasks.tolerance": "a formula: tests/tasks/test_task_rewards.py",
    "tasks.union": PLAYED,
    "losses.clipped_policy": "PPO's, by hand and by its gradients: tests/test_losses.py",
    "losses.clipped_value": "PPO's, by hand and by its gradients: tests/test_losses.py",
    "optim.warmup": "a schedule of torch: tests/test_optim.py",
    "replay.Selector": PROTOCOL,
    "replay.Drawn": CONTAINER,
    "replay.Stored": CONTAINER,
    "rssm.Dynamics": "a protocol; a toy that keeps it is in test_toy.py",
    "rssm.Acting": CONTAINER,
    "rssm.AnyState": PROTOCOL,
    "rssm.Dropped": "stands for a memory that was not kept: tests/rssm/test_state.py",
    "rssm.Core": PROTOCOL,
    "rssm.Latent": PROTOCOL,
    "rssm.PriorPosterior": "the networks of both latents, whose suites they are in",
    "rssm.frozen": "a context of gradients: tests/rssm/test_imagination.py",
    "encoders.check_keys": "an error: tests/test_encoders.py",
    "encoders.both_sides": "an error: tests/test_encoders.py",
    "encoders.group_shape": "two numbers: tests/test_encoders.py",
    "encoders.image_groups": "a selection of spaces: tests/test_encoders.py",
    "encoders.image_sides": "two numbers: tests/test_encoders.py",
    "encoders.image_stages": "a few numbers: tests/test_encoders.py",
    "encoders.images_of": "a selection of spaces: tests/test_encoders.py",
    "encoders.vectors_of": "a selection of spaces: tests/test_encoders.py",
    "decoders.Parted": PROTOCOL,
    "distributions.Features": "several by name: tests/test_heads.py",
    "distributions.Output": "the base of all outputs; some of one's own: tests/test_own_head.py",
    "distributions.Transform": PROTOCOL,
    "distributions.same_shape": "an error: tests/distributions/test_output.py",
    "distributions.sum_event": "a sum over event axes: tests/distributions/test_output.py",
    "heads.FeatureHead": "several by name: tests/test_heads.py",
    "envs.ActionLog": "tests/envs/test_reenact.py",
    "envs.Atari": "the factory of `atari`: tests/envs/test_ale.py",
    "envs.Failure": CONTAINER,
    "envs.NotRestored": "an error",
    "envs.atari": "a simulator: tests/envs/test_ale.py, by hand and by recorded rows",
    "envs.atari_games": "a list of names: tests/envs/test_ale.py",
    "envs.atari_image": "a function of images: tests/envs/test_images.py",
    "envs.BODIES": "numbers and phrases: tests/envs/test_features.py",
    "envs.Body": CONTAINER,
    "envs.ControlText": "sentences and numbers: tests/envs/test_features.py",
    "envs.Describer": PROTOCOL,
    "envs.Feature": CONTAINER,
    "envs.Featured": "an environment with more keys: tests/envs/test_features.py",
    "envs.Goal": CONTAINER,
    "envs.MiniGridText": "sentences and bits: tests/envs/test_minigrid.py",
    "envs.crafter": "a simulator: tests/envs/test_crafter.py",
    "envs.dmc": "a simulator: tests/envs/test_control.py",
    "envs.dmc_features": "a simulator: tests/envs/test_features.py",
    "envs.make": "one of the suites, by name: tests/envs/test_make.py",
    "envs.minigrid": "a simulator, which keeps the promises: tests/envs/test_minigrid.py",
    "envs.reenact": "tests/envs/test_reenact.py",
    "envs.split_features": "a selection of keys: tests/envs/test_features.py",
}
# Compiling takes seconds, and the tests of these blocks do it too.
COMPILED_ELSEWHERE = ("rssm", "encoders", "decoders", "heads", "distributions")
TESTING = [name for name in public_names("testing") if not name[0].isupper()]  # tested by mutants
TESTING += ["BrokenPromise", "Promise", "RUNGS", "Report", "Result", "Rung", "Trajectory"]
TESTING += ["ScriptedLM"]


def cases():
    for name, (check, subject, options) in SUITES.items():
        skip = options.get("skip", ())
        for promise in choose(name, promises(check), (), skip):
            case = check, subject, {k: x for k, x in options.items() if k != "skip"}
            slow = promise.name == "compiles" and name.startswith(COMPILED_ELSEWHERE)
            marks = [pytest.mark.slow] * slow
            test = f"{name.split('+')[0]}-{promise.name}"
            yield pytest.param(*case, promise.name, id=test, marks=marks)


@pytest.mark.parametrize(("check", "subject", "options", "promise"), list(cases()))
def test_block_keeps(check, subject, options, promise):
    options = dict(options)
    with searching(share=options.pop("share", 1.0)):
        report = check(subject, only=promise, **options)
    if promise in report.skipped:
        pytest.skip(report.skipped[promise])


def covered():
    for name in SUITES:
        module, _, rest = name.split(" ")[0].partition(".")
        yield from (f"{module}.{one}" for one in rest.split("+"))


@pytest.mark.parametrize("module", BLOCKS)
def test_every_public_name_has_a_suite_or_a_reason(module):
    if module in REASONS:
        return
    known = {*covered(), *REASONS, *(f"testing.{name}" for name in TESTING)}
    missing = [name for name in public_names(module) if f"{module}.{name}" not in known]
    assert missing == [], "a line in tests/conformance/suites.py, or a reason here"


def test_no_reason_is_left_over():
    known = {f"{module}.{name}" for module in BLOCKS for name in public_names(module)}
    stale = [name for name in [*covered(), *REASONS] if name not in known | set(BLOCKS)]
    assert stale == []
