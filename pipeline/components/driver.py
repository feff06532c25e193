"""What an executor reads beside its inputs, as execution properties, so that the cache notices."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2


class Driver(base_driver.BaseDriver, portable_driver.BaseDriver):
    """A driver that adds `properties`, which are looked up when the node is about to run.

    Components demand the older class, the launcher calls `run` of the newer one.
    """

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_driver.BaseDriver.__init__(self, metadata_handle)

    @abc.abstractmethod
    def properties(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What to add to the execution properties `given`."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Called by the launcher."""
        output = driver_output_pb2.DriverOutput()
        for name, value in self.properties(execution_info.exec_properties).items():
            data_types_utils.set_metadata_value(output.exec_properties[name], value)
        return output
