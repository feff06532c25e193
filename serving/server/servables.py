"""The versions of a model that are served: loading, skipping and selecting them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import grpc

from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.protocol.versions import version_folders
from tfrec_meta.serving.server.servable import INVALID, RequestError, Servable

log = logging.getLogger(__name__)


class Servables:
    """The served versions of one model.

    Args:
        base: the folder that holds the versions.
        name: name of the model in requests.
        versions: "latest" (the newest version that loads), "all", or version numbers.
        labels: version numbers by label.
    """

    def __init__(
        self,
        base: str | os.PathLike[str],
        name: str,
        versions: str | Collection[int] = "latest",
        labels: Mapping[str, int] | None = None,
    ):
        self.base, self.name, self.versions = Path(base), name, versions
        self.labels = dict(labels or {})
        self._refreshing = threading.Lock()
        # Replaced and never changed in place, because requests read them without a lock.
        self._served: Mapping[int, Servable] = {}
        self._failed: Mapping[int, str] = {}

    @property
    def served(self) -> Mapping[int, Servable]:
        """The loaded versions by number, newest first."""
        return self._served

    @property
    def failed(self) -> Mapping[int, str]:
        """The reasons why versions that should be served are not, by number."""
        return self._failed

    def refresh(self) -> None:
        """Loads the versions that the base folder now has and `versions` selects.

        Versions that are no longer selected are dropped. A version that does not load is skipped
        with a warning, and "latest" uses the next lower one. Requests in progress keep the version
        that they began with.

        Raises:
            ServerStartError: if no version can be served, a version number is missing, or a label
                has a version that is not served. The versions served before stay.
        """
        with self._refreshing:
            folders = version_folders(self.base)
            if not isinstance(self.versions, str):
                absent = sorted(set(self.versions) - set(folders))
                if absent:
                    raise ServerStartError(
                        f"`versions`={sorted(self.versions)}, but {str(self.base)!r} holds "
                        f"{sorted(folders)}. Use these numbers."
                    )
                folders = {v: folder for v, folder in folders.items() if v in self.versions}
            served: dict[int, Servable] = {}
            failed: dict[int, str] = {}
            for version, folder in folders.items():
                try:
                    served[version] = self._served.get(version) or Servable(
                        folder, version, self.name
                    )
                except ValueError as error:
                    failed[version] = str(error)
                    if self._failed.get(version) != failed[version]:  # warn once
                        log.warning(
                            "skipped version %d of model %s (%s): %s",
                            version,
                            self.name,
                            folder,
                            error,
                        )
                    continue
                if version not in self._served:
                    log.info("serving version %d of model %s (%s)", version, self.name, folder)
                if self.versions == "latest":
                    break
            self._failed = failed
            if not served:
                newest = next(iter(failed))
                raise ServerStartError(
                    f"no version in {str(self.base)!r} can be served; the newest, {newest}: "
                    f"{failed[newest]}. Export the model again."
                )
            for label, version in self.labels.items():
                if version not in served:
                    raise ServerStartError(
                        f"label {label!r} is for version {version}, but {sorted(served)} are "
                        "served. Use one of these, or serve more with `versions`."
                    )
            self._served = served

    def find(self, spec: Any) -> Servable:
        """Returns the servable that a ModelSpec selects.

        Raises:
            RequestError: NOT_FOUND for an unknown model or version; otherwise as for
                `chosen_version`.
        """
        served = self._served
        version = self.chosen_version(spec)
        if version is None:
            if spec.name != self.name or not served:
                raise RequestError(
                    grpc.StatusCode.NOT_FOUND,
                    f"Servable not found for request: Latest({spec.name})",
                )
            return next(iter(served.values()))
        if spec.name != self.name or version not in served:
            raise RequestError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific({spec.name}, {version})",
            )
        return served[version]

    def chosen_version(self, spec: Any) -> int | None:
        """Returns the version that a ModelSpec names by number or label; None for the latest.

        Raises:
            RequestError: INVALID_ARGUMENT for a spec without a name, and for an unknown label.
        """
        if not spec.name:
            raise RequestError(INVALID, "ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return int(spec.version.value)
        if choice == "version_label":
            if spec.name == self.name and spec.version_label in self.labels:
                return self.labels[spec.version_label]
            raise RequestError(
                INVALID, f"Unrecognized servable version label: {spec.version_label}"
            )
        return None
