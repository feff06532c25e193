"""The ids of nodes, compared with the graphs of two configs that have every node together."""

import pytest
from tfx.dsl.components.common import resolver

from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.node_ids import NODES_OF_TABLES, NodeId
from tfrec_meta.pipeline.pages.run_records import Node
from tfrec_meta.pipeline.pipeline import create_pipeline
from tfrec_meta.pipeline.tables import IDS


@pytest.fixture(scope="module")
def components(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    paths = {table: {"path": str(folder / f"{table}.csv")} for table in IDS}
    record = {"name": "p", "serving": "s", "root": str(folder), "data": paths}
    searching = PipelineConfig.from_dict(
        record | {"evaluator": {"positive": 3}, "trainer": {"warm_start": True}}
    )
    reusing = PipelineConfig.from_dict(record | {"tuner": {"enabled": False}})
    return [*create_pipeline(searching).components, *create_pipeline(reusing).components]


def test_the_graphs_have_all_nodes_and_no_other(components):
    assert {component.id for component in components} == set(NodeId)


def test_the_resolvers_are_those_of_the_graph(components):
    found = {each.id for each in components if isinstance(each, resolver.Resolver)}
    assert found == {node for node in NodeId if node.is_resolver}


def test_every_table_has_its_nodes():
    assert list(NODES_OF_TABLES) == list(IDS)
    assert NODES_OF_TABLES["users"] == ("UsersGen", "UsersStatistics", "UsersValidator")


def test_a_node_of_another_pipeline_is_no_resolver():
    assert Node(NodeId.LAST_BASE.value).is_resolver
    assert not Node("Lasting").is_resolver
