"""A TFX driver that adds execution properties, so that the cache notices further inputs."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2


class PropertyDriver(base_driver.BaseDriver, portable_driver.BaseDriver, abc.ABC):
    """Adds execution properties that are computed when the node is about to run.

    TFX's cache compares input artifacts and execution properties. State that an executor reads in
    addition to its inputs must therefore be a property. Components require the older base class;
    the launcher calls `run` of the newer one.
    """

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_driver.BaseDriver.__init__(self, metadata_handle)

    @abc.abstractmethod
    def further_properties(self, exec_properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the properties to add to `exec_properties`."""

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Adds the properties; called by the launcher."""
        output = driver_output_pb2.DriverOutput()
        for name, value in self.further_properties(execution_info.exec_properties).items():
            data_types_utils.set_metadata_value(output.exec_properties[name], value)
        return output
