"""Pytrees of tensors (nested NamedTuples, tuples, lists and mappings) with named leaves.

The name of a leaf is its path: `carry/deter`, `carry/stoch/0`. `None` has no leaves. A replay
stores leaves by name and remembers their structure as a tree of names, a *template*.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any


def map_leaves(function: Callable[[str, Any], Any], tree: Any, name: str) -> Any:
    """Replace each leaf with `function(name, leaf)`.

    >>> map_leaves(lambda name, leaf: name, {"deter": 1, "stoch": [2, 3]}, "carry")
    {'deter': 'carry/deter', 'stoch': ['carry/stoch/0', 'carry/stoch/1']}
    """
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, leaf, f"{name}/{key}") for key, leaf in tree.items()}
    if isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        parts = [
            map_leaves(function, leaf, f"{name}/{field}")
            for field, leaf in zip(fields, tree, strict=True)
        ]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(name, tree)


def flatten(tree: Any, name: str) -> tuple[dict[str, Any], Any]:
    """The leaves by name, in the order of the tree, and the template.

    >>> flatten({"deter": 1, "stoch": [2]}, "carry")
    ({'carry/deter': 1, 'carry/stoch/0': 2}, {'deter': 'carry/deter', 'stoch': ['carry/stoch/0']})
    """
    leaves: dict[str, Any] = {}

    def keep(name: str, leaf: Any) -> str:
        leaves[name] = leaf
        return name

    template = map_leaves(keep, tree, name)
    return leaves, template


def template_to_json(template: Any) -> Any:
    """A template as JSON, with the types of its containers."""
    if template is None or isinstance(template, str):
        return template
    if isinstance(template, Mapping):
        return {"dict": {key: template_to_json(node) for key, node in template.items()}}
    if hasattr(template, "_fields"):
        fields = dict(zip(template._fields, map(template_to_json, template), strict=True))
        return {"namedtuple": type(template).__name__, "fields": fields}
    return {type(template).__name__: [template_to_json(node) for node in template]}


def template_from_json(node: Any) -> Any:
    """The inverse of `template_to_json`.

    Files contain no code: a NamedTuple becomes a namedtuple with the same name and fields.
    """
    if node is None or isinstance(node, str):
        return node
    if "dict" in node:
        return {key: template_from_json(part) for key, part in node["dict"].items()}
    if "namedtuple" in node:
        parts = [template_from_json(part) for part in node["fields"].values()]
        return namedtuple(node["namedtuple"], node["fields"])(*parts)
    ((kind, parts),) = node.items()
    return {"tuple": tuple, "list": list}[kind](map(template_from_json, parts))
