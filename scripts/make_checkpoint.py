"""Builds focus/assets/focus_small.safetensors, the networks in the box, from a finished run of `focus train`.

focus train --preset tiny --synthetic 2000 --out runs/tiny && python scripts/make_checkpoint.py runs/tiny

docs/checkpoint.md says more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from focus.autoencoder import ASSET, FaceAutoencoder
from focus.evaluation import all_tables, evaluate_synthetic
from focus.training.run import MODEL, SETTINGS
from focus.training.settings import TrainSettings

COMMAND = "focus train --preset tiny --synthetic 2000 --out runs/tiny"
FACES, SEED = 1000, 20_261_123  # faces that neither training nor any choice of settings has seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--command", default=COMMAND, help="what made the run, for the metadata")
    parser.add_argument("--faces", type=int, default=FACES, help="synthetic faces to measure it on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ASSET)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = TrainSettings.load(arguments.run / SETTINGS)
    trained = FaceAutoencoder.load(arguments.run / MODEL, level=settings.level)
    metadata = {"license": "Apache-2.0", "command": arguments.command, "seed": str(settings.seed), **trained.metadata}
    with tempfile.TemporaryDirectory() as folder:  # what is measured is what is stored, rounded to float16
        rounded = Path(folder) / MODEL
        trained.save(rounded, half=True)
        found = evaluate_synthetic(FaceAutoencoder.load(rounded, level=settings.level), arguments.faces, seed=SEED)
    metadata["metrics"] = json.dumps({"faces": arguments.faces, "recipe": found.recipe, **subsets(found)})
    trained.save(arguments.out, half=True, metadata=metadata)
    print(all_tables({"in the box": found.summary()}))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


def subsets(found) -> dict[str, dict[str, float]]:
    """Mean of every measure by subset."""
    return {name: {key: round(value, 4) for key, value in found.means(name).items()} for name in found.subsets}


if __name__ == "__main__":
    main()
