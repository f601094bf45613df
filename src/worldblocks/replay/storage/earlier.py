"""Manifests of saved replays: whether one can be loaded, and those of earlier versions."""

from collections.abc import Mapping
from typing import Any

FORMAT = 2
# Parts of a carry that earlier versions stored under other names.
EARLIER = {"carry/deter": "carry/memory", "carry/index": "carry/stoch"}


def current(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest of an earlier version as this version writes it.

    Raises:
        ValueError: a later version wrote it.
    """
    if manifest["format"] > FORMAT:
        raise ValueError(
            f"the saved replay has format {manifest['format']}; this version of worldblocks reads "
            f"up to {FORMAT}, so load it with the version that saved it"
        )
    if manifest["format"] == 1:
        manifest = _from_first_format(manifest)
    old = manifest["carry"]
    if not isinstance(old, Mapping) or (old.get("namedtuple"), *old.get("fields", ())) not in (
        ("Packed", "deter", "index"),
        ("GaussianCarry", "deter", "stoch"),
    ):
        return manifest
    fields = {"memory": "carry/memory", "stoch": "carry/stoch"}
    layout = {EARLIER.get(name, name): spec for name, spec in manifest["layout"].items()}
    return {**manifest, "layout": layout, "carry": {"namedtuple": "Packed", "fields": fields}}


def _from_first_format(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Streams advanced together, and the selector was the online queue with uniform draws."""
    streams = manifest["streams"]
    drawn, next_stream = divmod(manifest["queue"], streams)
    training, evaluation = manifest["samplers"]
    files = {
        name: {**entry, "start": [entry["start"]] * streams, "stop": [entry["stop"]] * streams}
        for name, entry in manifest["files"].items()
    }
    return {
        **manifest,
        "format": 2,
        "rows": [manifest["rows"]] * streams,
        "selector": {
            "selector": "OnlineFirst",
            "state": {
                "next": [drawn + (stream < next_stream) for stream in range(streams)],
                "then": {"selector": "Uniform", "state": training},
            },
        },
        "evaluation": evaluation,
        "ahead": [*manifest.get("ahead", ([], [])), None],
        "files": files,
    }


def check_manifest(manifest: Mapping[str, Any], ours: Mapping[str, int]) -> None:
    """Check that a saved replay has the sizes of the one that loads it.

    Raises:
        ValueError: names the first value that differs.
    """
    for name, number in ours.items():
        if manifest[name] != number:
            raise ValueError(
                f"the saved replay has {name}={manifest[name]}, and this one {name}={number}; "
                f"load it into one with {name}={manifest[name]}"
            )
