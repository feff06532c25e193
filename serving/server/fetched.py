"""A local copy of the versions of a model that an object store publishes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection

from tfrec_meta.export.published import fetch_version, manifest_digest, published_versions
from tfrec_meta.export.signatures import MANIFEST, version_of
from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.files import cache_folder, remove
from tfrec_meta.io.manifests import check_manifest
from tfrec_meta.io.stores import RemotePath, StoreError
from tfrec_meta.serving.protocol.errors import ServerStartError

log = logging.getLogger(__name__)

_KEPT = 2  # versions with "latest": the newest, and the one before it, in case it does not load


class FetchedVersions:
    """The local copies of published versions, each fetched once and checked by its manifest.

    Args:
        base: the folder of the served model on the store.
        versions: "latest", "all", or version numbers.

    Attributes:
        folder: the local folder, in the cache folder; a later server uses its versions again.
    """

    def __init__(self, base: RemotePath, versions: str | Collection[int]) -> None:
        wanted = versions if isinstance(versions, str) else sorted(versions)
        place = hashlib.sha256(f"{base.endpoint}\n{base}\n{wanted}".encode()).hexdigest()[:16]
        self.base, self.folder = base, cache_folder() / "served" / place / base.name
        self._versions = versions
        self._whole: set[int] = set()  # versions that were checked by this object
        self._damaged: dict[int, str] = {}

    def start(self) -> None:
        """Fetches the versions; without an answer of the store, those of earlier servers stay.

        Raises:
            ServerStartError: if no version can be served.
        """
        try:
            self.refresh()
        except StoreError as error:
            if not self._local():
                raise ServerStartError(str(error), "base") from error
            log.warning("%s The versions that were fetched earlier are served.", error)

    def refresh(self) -> None:
        """Fetches new versions, and removes those that are no longer published.

        Raises:
            ServerStartError: if there is no whole version.
            StoreError: if the store refuses or does not answer.
        """
        published = published_versions(self.base)
        numbers = published
        if not isinstance(self._versions, str):
            numbers = [version for version in published if version in self._versions]
        most = _KEPT if self._versions == "latest" else len(numbers)
        kept: list[int] = []
        for version in numbers:
            # Of "latest" one is fetched; an earlier one is kept if it is here.
            is_spare = bool(kept) and self._versions == "latest"
            if len(kept) == most or (is_spare and not self._has(version)):
                break
            if self._fetch(version):
                kept.append(version)
        if not kept:
            raise ServerStartError(self._problem(published), "base")
        for version in set(self._local()) - set(kept):
            remove(self.folder / str(version))

    def _has(self, version: int) -> bool:
        return (self.folder / str(version)).is_dir()

    def _fetch(self, version: int) -> bool:
        """Fetches a version that is not here; returns whether it is whole."""
        folder = self.folder / str(version)
        if version in self._whole and folder.is_dir():
            return True
        try:
            if folder.is_dir() and not self._is_current(version):
                remove(folder)
            if not folder.is_dir():
                fetch_version(self.base, version, folder)
                log.info("fetched version %d of %s", version, self.base)
        except FileExistsError:  # another server has fetched it meanwhile
            pass
        except (DamagedFile, FileNotFoundError) as error:
            if self._damaged.get(version) != str(error):
                log.warning("skipped version %d of %s: %s", version, self.base, error)
            self._damaged[version] = str(error)
            return False
        self._whole.add(version)
        return True

    def _is_current(self, version: int) -> bool:
        """Whether a local copy is whole, and of the version that the store has now."""
        folder = self.folder / str(version)
        digest = manifest_digest(self.base, version)
        try:
            is_whole = check_manifest(folder, MANIFEST)
        except DamagedFile:
            return False
        return is_whole and digest == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()

    def _local(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (version_of(path.name) for path in self.folder.iterdir())
        return [version for version in found if version is not None]

    def _problem(self, published: list[int]) -> str:
        if self._damaged and published:
            reason = next(iter(self._damaged.values()))
            return f"no version in {str(self.base)!r} is whole: {reason}"
        has = f"the versions {published}" if published else "no version with a manifest"
        return (
            f"`base`={str(self.base)!r} holds {has}. Export a model to it first, or use its "
            "versions."
        )
