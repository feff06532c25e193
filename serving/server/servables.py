"""The versions of a model that are served: loading, skipping and selecting them."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import grpc

from tfrec_meta.export.signatures import MANIFEST
from tfrec_meta.io.manifests import Stamp, stamp
from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.protocol.versions import version_folders
from tfrec_meta.serving.server.servable import INVALID, RequestError, Servable

log = logging.getLogger(__name__)

_QUIET_SECONDS = 10.0  # without a change, for a version whose manifest is missing
_NO_MANIFEST = f"it has no {MANIFEST} (an incomplete copy?)"


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
        self._stamps: dict[int, Stamp] = {}  # of the files, when a version was loaded or refused

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

        Versions that are no longer selected are dropped. A version that does not load or does not
        match its manifest is skipped with a warning, and "latest" uses the next lower one; it is
        tried again when its files change. Requests in progress keep the version that they began
        with. A version whose manifest is missing is probably still being copied: a lower version
        is preferred to it until its files have not changed for some seconds.

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
            doubtful: dict[int, Servable] = {}
            for version, folder in folders.items():
                try:
                    servable = self._load(version, folder)
                except ValueError as error:
                    failed[version] = str(error)
                    self._warn_once(version, folder, failed[version])
                    continue
                if servable.lacks_manifest and _seconds_unchanged(folder) < _QUIET_SECONDS:
                    doubtful[version] = servable
                    continue
                served[version] = servable
                if self.versions == "latest":
                    break
            if served:
                failed |= dict.fromkeys(doubtful, _NO_MANIFEST)
            else:  # better than nothing
                served = dict(list(doubtful.items())[: 1 if self.versions == "latest" else None])
            for version in set(served) - set(self._served):
                folder = folders[version]
                log.info("serving version %d of model %s (%s)", version, self.name, folder)
            self._failed = failed
            self._stamps = {v: stamp for v, stamp in self._stamps.items() if v in folders}
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

    def _load(self, version: int, folder: Path) -> Servable:
        """Returns the loaded version, and loads it again only if it may have changed.

        Raises:
            ValueError: if it cannot be served.
        """
        loaded = self._served.get(version)
        if loaded is not None and loaded.is_verified:
            return loaded
        now = stamp(folder)
        if now == self._stamps.get(version):
            if loaded is not None:
                return loaded
            if version in self._failed and self._failed[version] != _NO_MANIFEST:
                raise ValueError(self._failed[version])
        self._stamps[version] = now
        try:
            return Servable(folder, version, self.name)
        except ValueError:
            if loaded is not None:  # it was complete when it was loaded
                return loaded
            raise

    def _warn_once(self, version: int, folder: Path, reason: str) -> None:
        before = self._failed.get(version, "")
        if re.sub(r"[\d,]+", "#", before) != re.sub(r"[\d,]+", "#", reason):  # a copy grows
            log.warning(
                "skipped version %d of model %s (%s): %s", version, self.name, folder, reason
            )

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


def _seconds_unchanged(folder: Path) -> float:
    """The time since a file of a folder was last written; its own time stamp may be older."""
    paths = [folder, *folder.rglob("*")]
    return time.time() - max((path.stat().st_ctime for path in paths if path.exists()), default=0.0)
