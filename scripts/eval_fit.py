"""Fit every photo of a folder and print medians: python scripts/eval_fit.py FACES --out results.json

FACES holds landmarks68.csv (image, occlusion, x0, ..., y67) and photos/. Nothing that shows a photo is written.
"""

import argparse
import csv
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from focus import FaceModel
from focus.fitting import FitError, FitSettings, fit_photo
from focus.landmarks import read_landmarks_csv

COLUMNS = ("rmse_inlier", "rmse_all", "inlier_fraction", "landmark_error_px", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers of every photo")
    parser.add_argument("--model", type=Path, help="a face model file; the default is the free model")
    parser.add_argument("--level", type=int, default=1, help="subdivision of the face model")
    parser.add_argument("--every", type=int, default=1, help="take one photo of so many")
    parser.add_argument("--iterations", type=int, default=FitSettings().iterations)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = arguments.faces / "landmarks68.csv"
    with table.open(newline="") as file:
        occlusion = {row["image"]: row["occlusion"] for row in csv.DictReader(file)}
    landmarks = read_landmarks_csv(table)
    model = FaceModel.load(arguments.model, level=arguments.level)
    settings = FitSettings(iterations=arguments.iterations)
    rows, start = [], time.perf_counter()
    for name in list(landmarks)[:: arguments.every]:
        rows.append(fit_one(arguments.faces / "photos" / name, landmarks[name], model, settings))
        rows[-1] |= {"image": name, "occlusion": occlusion[name]}
        print(describe(rows[-1]), flush=True)
    summary = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "model": model.name,
        "vertices": model.num_vertices,
        "iterations": settings.iterations,
        "minutes": (time.perf_counter() - start) / 60,
        "groups": summarise(rows),
    }
    print(json.dumps(summary, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(summary | {"photos": rows}, indent=1))


def fit_one(path: Path, landmarks: np.ndarray, model: FaceModel, settings: FitSettings) -> dict:
    """The numbers of one photo, or its error."""
    image = np.asarray(Image.open(path).convert("RGB"))
    try:
        result = fit_photo(image, landmarks, model, settings)
    except FitError as error:
        return {"error": str(error)}
    row = {column: getattr(result, column) for column in COLUMNS}
    for name in ("identity", "expression", "albedo_coeffs"):
        row[name + "_rms"] = float(np.sqrt(np.mean(getattr(result, name) ** 2)))
    return row | {"yaw_degrees": math.degrees(float(result.angles[1]))}


def describe(row: dict) -> str:
    label = f"{row['image'][-40:]:40s} {row['occlusion']:10s}"
    if "error" in row:
        return f"{label} {row['error']}"
    return label + "".join(f" {column} {row[column]:7.3f}" for column in COLUMNS)


def summarise(rows: list[dict]) -> dict:
    """Medians and worst tenths of the unoccluded and the occluded photos."""
    groups = {}
    for group, keep in (("unoccluded", lambda row: not row["occlusion"]), ("occluded", lambda row: row["occlusion"])):
        chosen = [row for row in rows if keep(row)]
        fitted = [row for row in chosen if "error" not in row]
        numbers = {}
        for column in COLUMNS:
            values = [row[column] for row in fitted] or [math.nan]
            percentiles = np.percentile(values, (10, 50, 90)).tolist()
            numbers[column] = dict(zip(("p10", "p50", "p90"), percentiles, strict=True))
        groups[group] = {"photos": len(chosen), "failed": len(chosen) - len(fitted), **numbers}
    return groups


if __name__ == "__main__":
    main()
