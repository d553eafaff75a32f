"""The faces that methods are measured on: none that any training sees, half of the occluded by a kind that none sees.

Training draws hands, glasses, masks, hair, text and shapes over backgrounds of noise and gradients. Held out are the
kind "cutout" (other faces, whole or in part) and the backgrounds of patterns and textures. The textures on the
training's shapes come from the same family as those backgrounds; cut-outs of faces have none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..evaluation.evaluate import OCCLUDED, SEED, UNOCCLUDED, LabelledBatch, synthetic_batches
from ..face_model import FaceModel
from ..synth import SyntheticFaces

TRAIN_KINDS = ("hand", "glasses", "mask", "hair", "text", "shape")
HELD_OUT_KINDS = ("cutout",)
TRAIN_BACKGROUNDS = ("noise", "gradient")
HELD_OUT_BACKGROUNDS = ("texture",)
SEEN, HELD_OUT = "seen kinds", "held-out kind"
SUBSETS = (UNOCCLUDED, SEEN, HELD_OUT)
BATCH = 8


def face_recipe(count: int, size: int) -> dict[str, Any]:
    """What the test faces depend on beside the face model, as values for JSON."""
    kinds = {SEEN: list(TRAIN_KINDS), HELD_OUT: list(HELD_OUT_KINDS)}
    return {"faces": count, "size": size, "seed": SEED, "kinds": kinds, "backgrounds": list(HELD_OUT_BACKGROUNDS)}


def face_batches(count: int, size: int, model: FaceModel) -> Iterator[LabelledBatch]:
    """`count` faces of each of the SUBSETS, the same ones every time.

    A face on which no occluder came to lie is among the unoccluded.

    Args:
        model: a float32 face model on the CPU.
    """
    for number, (subset, kinds) in enumerate(zip(SUBSETS, ((), TRAIN_KINDS, HELD_OUT_KINDS), strict=True)):
        faces = SyntheticFaces(
            count,
            size,
            SEED + number,
            model=model,
            kinds=kinds,
            none_probability=0.0,
            backgrounds=HELD_OUT_BACKGROUNDS,
        )
        for labelled in synthetic_batches(faces, BATCH):
            labels = [(subset,) if OCCLUDED in inside else (UNOCCLUDED,) for inside in labelled.subsets]
            yield LabelledBatch(labelled.batch, [f"{subset} {name}" for name in labelled.names], labels)
