import json
from typing import NamedTuple

from worldblocks.replay.tree import (
    flatten,
    map_leaves,
    template_from_json,
    template_to_json,
)


class Pair(NamedTuple):
    left: object
    right: object


TREE = Pair({"a": 1, "b": None}, [2, (3, Pair(4, 5))])
LEAVES = {
    "carry/left/a": 1,
    "carry/right/0": 2,
    "carry/right/1/0": 3,
    "carry/right/1/1/left": 4,
    "carry/right/1/1/right": 5,
}


def test_leaves_are_named_by_the_way_to_them():
    leaves, template = flatten(TREE, "carry")
    assert leaves == LEAVES
    assert map_leaves(lambda _, name: leaves[name], template, "carry") == TREE


def test_a_single_leaf_and_no_leaf_are_trees():
    assert flatten(7, "carry") == ({"carry": 7}, "carry")
    assert flatten(None, "carry") == ({}, None)


def test_structure_is_kept():
    doubled = map_leaves(lambda name, leaf: 2 * leaf, TREE, "carry")
    assert doubled == Pair({"a": 2, "b": None}, [4, (6, Pair(8, 10))])
    assert isinstance(doubled, Pair)
    assert isinstance(doubled.right[1], tuple)


def test_a_template_survives_json():
    _, template = flatten(TREE, "carry")
    back = template_from_json(json.loads(json.dumps(template_to_json(template))))
    assert back == template
    assert type(back).__name__ == "Pair"
    assert back.right[1][1].left == "carry/right/1/1/left"
    for simple in (None, "carry"):
        assert template_from_json(template_to_json(simple)) == simple
