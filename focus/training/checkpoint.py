"""Checkpoints of a run: safetensors files with JSON in their header, whole or not there at all, no pickle."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..tensor_file import read_tensors, write_tensors

FORMAT, VERSION = "focus-training-checkpoint", "1"
_NAME = re.compile(r"(?:iteration|stage)-(\d+)\.safetensors")


class Checkpoint(NamedTuple):
    """What one file holds.

    Attributes:
        iteration: how many iterations were done.
        tensors: weights, statistics, optimizer state and random states, on the CPU, by name.
        state: everything else, as JSON has it.
        path: the file.
    """

    iteration: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path


class Checkpoints:
    """The checkpoints of one run in a folder: the newest `keep`, and those that were saved as permanent.

    A file is written under another name and then renamed, so whatever ends the process leaves the older files as they
    were. Each has a checksum, which is compared when it is read.

    Args:
        folder: made when the first checkpoint is saved.
        keep: how many of the others to keep, at least 1. With 2 there is one left if the newest is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"Checkpoints(): expected keep to be >= 1, got {keep}")
        self.folder, self.keep = Path(folder), keep

    def paths(self) -> list[Path]:
        """All checkpoints, the newest first, damaged ones too."""
        if not self.folder.is_dir():
            return []
        found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def clean(self) -> None:
        """Removes what a process that was killed left half written."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith(".") and path.name.endswith(".tmp"):
                    path.unlink(missing_ok=True)

    def save(
        self, iteration: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, permanent: bool = False
    ) -> Path:
        """Writes a checkpoint, then removes those that are not to be kept.

        Raises:
            OSError: it cannot be written (the disk is full, say); the others are all still there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{'stage' if permanent else 'iteration'}-{iteration:08d}.safetensors"
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        metadata = {"format": FORMAT, "version": VERSION, "iteration": str(iteration), "state": json.dumps(state)}
        write_tensors(path, arrays, metadata)
        _sync_folder(self.folder)
        for old in [old for old in self.paths() if old.name.startswith("iteration")][self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def latest(self, tell: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none.

        Args:
            tell: gets a message for each damaged file that is passed over.
        """
        for path in self.paths():
            try:
                return self.read(path)
            except (ValueError, OSError) as error:
                tell(f"passed over the checkpoint {path.name}: {error}")
        return None

    @staticmethod
    def read(path: str | os.PathLike[str]) -> Checkpoint:
        """Reads one file.

        Raises:
            ValueError: it is damaged or no checkpoint.
            OSError: it cannot be read.
        """
        caller, path = "Checkpoints.read()", Path(path)
        arrays, metadata = read_tensors(path, caller)
        if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
            raise ValueError(f"{caller}: expected {path} to be a {FORMAT} of version {VERSION}, got another file")
        state = json.loads(metadata["state"])
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        return Checkpoint(int(metadata["iteration"]), tensors, state, path)


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk too, before older files go; only some systems can say so."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
