"""A folder of numbered checkpoints of TensorFlow, each of which appears by one rename."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from tfrec_meta.io.damage import DamagedFile
from tfrec_meta.io.files import atomic_folder, clear_leftovers, remove

# What TensorFlow raises for damaged files; IndexError for cut ones.
_UNREADABLE = (tf.errors.OpError, ValueError, AssertionError, RuntimeError, LookupError, TypeError)
_NAME = "state"  # of the files in the folder of a checkpoint
_EARLIER = re.compile(r"(ckpt|best)-[^/]*\..*|.*_temp|checkpoint(\..*)?")  # of tfrec-meta 0.2


class CheckpointFolder:
    """Checkpoints `<folder>/<kind>-<number>/`, which several kinds can share a folder for.

    Args:
        checkpoint: what is written and read.
        folder: of the checkpoints.
        kind: the first part of their names.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: Path, kind: str):
        self._checkpoint, self._folder, self._kind = checkpoint, folder, kind

    def path(self, number: int) -> Path:
        """Returns the folder of a checkpoint."""
        return self._folder / f"{self._kind}-{number}"

    def numbers(self) -> list[int]:
        """Returns the numbers of all checkpoints, in ascending order."""
        names = [path.name for path in self._folder.glob(f"{self._kind}-*")]
        found = [re.fullmatch(rf"{self._kind}-(\d+)", name) for name in names]
        return sorted(int(each[1]) for each in found if each)

    def latest(self) -> int | None:
        """Returns the highest number of a checkpoint; None if there is none."""
        return max(self.numbers(), default=None)

    def write(self, number: int) -> None:
        """Writes a checkpoint, which is on the disk when the method returns."""
        with atomic_folder(self.path(number), overwrite=True) as new:
            self._checkpoint.write(str(new / _NAME))

    def read(self, number: int, way_out: str) -> None:
        """Reads a checkpoint.

        Args:
            number: of the checkpoint.
            way_out: what to do if it is damaged.

        Raises:
            DamagedFile: if it is damaged, or has other variables.
        """
        path = self.path(number) / _NAME
        try:
            self._checkpoint.read(str(path)).assert_existing_objects_matched()
        except _UNREADABLE as error:
            raise self.damage(number, " ".join(str(error).split())[:200], way_out) from error

    def damage(self, number: int, reason: str, way_out: str) -> DamagedFile:
        """Returns the error for a damaged checkpoint; it names the files."""
        path = self.path(number) / _NAME
        return DamagedFile(f"{path}.index or {path.name}.data-00000-of-00001", reason, way_out)

    def keep(self, *numbers: int) -> None:
        """Removes all other checkpoints of this kind, and what killed processes left."""
        clear_leftovers(self._folder)
        kept = {self.path(number) for number in numbers}
        for path in self._folder.iterdir():
            ours = path.name.startswith(f"{self._kind}-") or _EARLIER.fullmatch(path.name)
            if path not in kept and ours:
                remove(path)
