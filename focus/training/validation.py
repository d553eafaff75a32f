"""Validation of a run: faces of which masks or landmarks are known, kept apart from those it trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..autoencoder import FaceAutoencoder
from ..data.source import Source, in_order

BATCH = 8
MOST = 256  # faces; all of a larger source would take longer than the training between two validations
# Of the measures of `focus.evaluation.evaluate` those that a run logs, where their truth is known.
MEASURES = (
    *("f1", "f1_rounded", "acc", "ppv", "tpr"),
    *("rmse", "rmse_render", "vertex_error", "vertex_error_aligned", "mean_face_error_aligned"),
    *("landmark_error", "occluded_fraction", "true_occluded_fraction"),
)


def make_validation(
    source: Source, most: int = MOST, measures: Sequence[str] = MEASURES
) -> Callable[[FaceAutoencoder], dict[str, float]]:
    """A `validate` for `train`: means over the first `most` usable faces of a source.

    Args:
        source: without augmentation, of faces that are not trained on.
        most: number of faces.
        measures: names of `focus.evaluation.evaluate`; those whose truth the source does not know are left out.
    """
    from ..evaluation.evaluate import LabelledBatch, evaluate

    def batches() -> Iterator[LabelledBatch]:
        count = 0
        for indices, batch in in_order(source, BATCH):
            yield LabelledBatch(batch, [str(index) for index in indices], [()] * len(indices))
            count += len(indices)
            if count >= most:
                return

    def validate(autoencoder: FaceAutoencoder) -> dict[str, float]:
        means = evaluate(autoencoder, batches()).means()
        return {name: means[name] for name in measures if name in means}

    return validate
