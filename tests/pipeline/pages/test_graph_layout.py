"""The layout of graphs."""

import random
from itertools import combinations, pairwise

import pytest

from tests.pipeline.run_page_samples import GRAPH
from tfrec_meta.pipeline.pages.graph_layout import layered, reduced

BOX = (100.0, 40.0)
GAP = (20.0, 30.0)


def edges_of(graph):
    return [(above, node) for node, upstream in graph.items() for above in upstream]


def test_a_chain_is_one_column():
    layout = layered(["a", "b", "c"], [("a", "b"), ("b", "c")], BOX, GAP)
    assert layout.boxes == {"a": (0, 0), "b": (0, 70), "c": (0, 140)}
    assert (layout.width, layout.height) == (100, 180)
    assert layout.arrows == {
        ("a", "b"): [(50, 40), (50, 70)],
        ("b", "c"): [(50, 110), (50, 140)],
    }


def test_a_node_is_centred_below_its_two_sources():
    layout = layered(["a", "b", "c"], [("a", "c"), ("b", "c")], BOX, GAP)
    assert layout.boxes == {"a": (0, 0), "b": (120, 0), "c": (60, 70)}
    assert (layout.width, layout.height) == (220, 110)


def test_leaves_out_edges_that_others_imply():
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("a", "c"), ("unknown", "c")]
    assert reduced(["a", "b", "c"], edges) == [("a", "b"), ("b", "c")]


def test_a_source_is_directly_above_the_node_that_waits_for_it():
    edges = [("a", "b"), ("b", "c"), ("late", "c")]
    layout = layered(["a", "late", "b", "c"], edges, BOX, GAP)
    assert layout.boxes["late"][1] == layout.boxes["b"][1] == 70


def test_a_long_arrow_passes_between_the_boxes_of_other_layers():
    # No other edge implies a -> z -> y and s -> y2: they must pass other layers.
    edges = [("a", "b"), ("b", "x"), ("x", "y"), ("a", "z"), ("z", "y"), ("a", "w"), ("w", "z")]
    edges += [("s", "b"), ("s", "y2"), ("b", "q"), ("q", "y2")]
    layout = layered(["s", "a", "b", "w", "x", "q", "z", "y", "y2"], edges, BOX, GAP)
    check(layout, BOX)


def test_refuses_a_cycle_and_names_it():
    with pytest.raises(ValueError, match="cycle among b, c"):
        layered(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "b")])


def test_an_empty_graph_has_no_size():
    layout = layered([], [])
    assert (layout.width, layout.height, layout.boxes) == (0, 0, {})


def test_a_single_node_has_the_size_of_its_box():
    layout = layered(["a"], [], BOX, GAP)
    assert (layout.width, layout.height, layout.boxes) == (100, 40, {"a": (0, 0)})


def check(layout, box):
    width, height = box
    for (first, (x, y)), (second, (u, v)) in combinations(layout.boxes.items(), 2):
        assert abs(x - u) >= width or abs(y - v) >= height, f"{first} overlaps {second}"
    for x, y in layout.boxes.values():
        assert 0 <= x <= layout.width - width + 0.2
        assert 0 <= y <= layout.height - height
    for (source, target), points in layout.arrows.items():
        assert points[0][1] < points[-1][1], "arrows point down"
        # Points are at the height of the boxes' edges; between them an arrow may cross a box.
        middles = [((a + c) / 2, (b + d) / 2) for (a, b), (c, d) in pairwise(points)]
        for x, y in points[1:-1] + middles:
            inside = [
                n for n, (u, v) in layout.boxes.items() if u < x < u + width and v < y < v + height
            ]
            assert not inside, f"{source} -> {target} runs through {inside}"


def test_the_pipelines_graph_fits_the_page_without_overlap():
    layout = layered(list(GRAPH), edges_of(GRAPH))
    assert len(layout.boxes) == 23
    check(layout, (186, 46))
    assert layout.width <= 1000
    assert layout.height <= 1300
    assert layout.boxes["Pusher"][1] == max(y for _, y in layout.boxes.values())


@pytest.mark.parametrize("seed", range(5))
def test_random_graphs_have_no_overlap(seed):
    draw = random.Random(seed)
    nodes = [f"n{index}" for index in range(25)]
    edges = [(a, b) for a, b in combinations(nodes, 2) if draw.random() < 0.12]
    check(layered(nodes, edges, BOX, GAP), BOX)
