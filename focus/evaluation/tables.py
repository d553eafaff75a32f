"""Markdown tables in the form of the paper's: one row per method, mean and standard deviation per subset.

Those of a single method have a row per subset instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .results import OVERALL, Statistic

Results = Mapping[str, Mapping[str, Mapping[str, Statistic]]]
"""Method -> subset -> measure -> statistic: of `Evaluation.summary` or `read_statistics`."""

MASK_MEASURES = {"ACC": "acc", "PPV": "ppv", "TPR": "tpr", "F1": "f1"}
SHAPE_MEASURES = {
    "raw": "vertex_error",
    "aligned": "vertex_error_aligned",
    "mean face, raw": "mean_face_error",
    "mean face, aligned": "mean_face_error_aligned",
}
PRIOR = "_prior"  # ending of measures after the misfit prior


def mask_table(results: Results, *, rounded: bool = False, subsets: Sequence[str] | None = None) -> str:
    """Tables 4 and 5: ACC, PPV, TPR and F1 with its standard deviation, for every subset; "-" where there is none.

    Args:
        rounded: of the rounded masks, else of the soft ones.
        subsets: which, in this order; None takes those of the first method.
    """
    ending = "_rounded" if rounded else ""
    names = _subsets(results, subsets)

    def cells(values: Mapping[str, Statistic]) -> list[str]:
        return [_cell(values.get(key + ending), 2, spread=key == "f1") for key in MASK_MEASURES.values()]

    rows = {method: [cells(found.get(name, {})) for name in names] for method, found in results.items()}
    return _table(rows, names, list(MASK_MEASURES), wide=len(results) > 1)


def rmse_table(results: Results, *, measure: str = "rmse", subsets: Sequence[str] | None = None) -> str:
    """Table 1: a row per subset, a column per method; RMSE in levels of 0 to 255."""
    rows = [
        [name, *(_cell(found.get(name, {}).get(measure), 2) for found in results.values())]
        for name in _subsets(results, subsets)
    ]
    return markdown(["Testset", *results], rows)


def shape_table(results: Results, *, subsets: Sequence[str] | None = None) -> str:
    """Vertex errors in mm per subset, raw and aligned, with those of the mean face and, as "-MP", after the prior."""
    names = _subsets(results, subsets)
    rows = {}
    for method, found in results.items():
        for ending, suffix in (("", ""), (PRIOR, "-MP")):
            measures = [key + (ending if key.startswith("vertex") else "") for key in SHAPE_MEASURES.values()]
            if any(measures[0] in values for values in found.values()):
                rows[method + suffix] = [[_cell(found.get(name, {}).get(key), 2) for key in measures] for name in names]
    return _table(rows, names, list(SHAPE_MEASURES), wide=len(results) > 1)


def now_table(results: Results, *, subsets: Sequence[str] | None = None) -> str:
    """Tables 2 and 3: median, mean and standard deviation in mm over all vertices of a subset's scans."""
    names = _subsets(results, subsets)
    labels = ("median", "mean", "std")
    rows = {
        method: [[_cell(found.get(name, {}).get(label), 2, spread=False) for label in labels] for name in names]
        for method, found in results.items()
    }
    return _table(rows, names, labels, wide=len(results) > 1)


def all_tables(results: Results) -> str:
    """Every table for which there are numbers, with headings."""
    measures = {key for found in results.values() for values in found.values() for key in values}
    parts = []
    if "f1" in measures:
        parts += ["## Masks inside the rendered region, soft", mask_table(results)]
        parts += ["## Masks inside the rendered region, rounded", mask_table(results, rounded=True)]
    if "rmse" in measures:
        parts += ["## RMSE (0-255) inside ground truth x render", rmse_table(results)]
    elif "rmse_render" in measures:
        parts += ["## RMSE (0-255) inside the render", rmse_table(results, measure="rmse_render")]
    if "vertex_error" in measures:
        parts += ["## Vertex error (mm)", shape_table(results)]
    if "landmark_error" in measures:
        parts += ["## Landmark error (px)", rmse_table(results, measure="landmark_error")]
    if "landmark_error_interocular" in measures:
        heading = "## Landmark error over the distance of the outer eye corners (%)"
        parts += [heading, rmse_table(results, measure="landmark_error_interocular")]
    return "\n\n".join(parts) + "\n"


def _table(
    rows: Mapping[str, Sequence[Sequence[str]]], subsets: Sequence[str], labels: Sequence[str], *, wide: bool
) -> str:
    """Cells by method and subset: as in the paper, subsets side by side; or, of one method, below each other."""
    if wide:
        head = ["Method", *(f"{name}: {label}" for name in subsets for label in labels)]
        return markdown(
            head, [[method, *(cell for cells in found for cell in cells)] for method, found in rows.items()]
        )
    lines = [
        [f"{method}: {name}", *cells]
        for method, found in rows.items()
        for name, cells in zip(subsets, found, strict=True)
    ]
    return markdown(["Method: subset", *labels], lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right. Bars in cells are escaped."""
    lines = [head, [":---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _subsets(results: Results, wanted: Sequence[str] | None) -> list[str]:
    if wanted is not None:
        return list(wanted)
    names = list(dict.fromkeys(name for found in results.values() for name in found))
    return [name for name in names if name != OVERALL] + [OVERALL] * (OVERALL in names)


def _cell(value: Statistic | None, digits: int, *, spread: bool = True) -> str:
    if value is None or not value.images or not math.isfinite(value.mean):
        return "-"
    text = f"{value.mean:.{digits}f}"
    return f"{text} ± {value.std:.{digits}f}" if spread else text
