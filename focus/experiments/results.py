"""What an experiment found: every method's numbers for every seed, their mean and spread, and the files of it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from ..evaluation.results import Statistic
from .measure import Summary


@dataclass(frozen=True)
class Results:
    """Numbers of several methods with several seeds.

    Attributes:
        experiment: its name.
        methods: their names, in order.
        seeds: those that were asked for.
        found: (method, seed) -> subset -> measure -> statistic over images; without runs that diverged.
        recipe: what was done, values for JSON.
        notes: what a reader of the tables has to know.
    """

    experiment: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    found: Mapping[tuple[str, int], Summary]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def values(self, method: str, subset: str, measure: str) -> dict[int, float]:
        """Seed -> the mean over the subset's images; without seeds that have none."""
        values = {}
        for seed in self.seeds:
            statistic = self.found.get((method, seed), {}).get(subset, {}).get(measure)
            if statistic is not None and math.isfinite(statistic.mean):
                values[seed] = statistic.mean
        return values

    def over_seeds(self) -> dict[str, Summary]:
        """Method -> subset -> measure -> mean and sample standard deviation over seeds, of the means over images.

        `images` of a statistic is its number of seeds; with one seed the deviation is 0.
        """
        table: dict[str, Summary] = {}
        for method in self.methods:
            summaries = [self.found[method, seed] for seed in self.seeds if (method, seed) in self.found]
            subsets = dict.fromkeys(name for summary in summaries for name in summary)
            table[method] = {name: {} for name in subsets}
            for name in subsets:
                for measure in dict.fromkeys(key for summary in summaries for key in summary.get(name, {})):
                    values = list(self.values(method, name, measure).values())
                    if values:
                        spread = stdev(values) if len(values) > 1 else 0.0
                        table[method][name][measure] = Statistic(fmean(values), spread, len(values))
        return table

    def to_csv(self) -> str:
        """One line per method, subset and measure: mean and spread over seeds, then each seed's value."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["method", "subset", "measure", "mean", "spread", "seeds", *(f"seed {s}" for s in self.seeds)])
        for method, subsets in self.over_seeds().items():
            for subset, measures in subsets.items():
                for measure, value in measures.items():
                    single = self.values(method, subset, measure)
                    cells = [f"{single[seed]:.6g}" if seed in single else "" for seed in self.seeds]
                    table.writerow(
                        [method, subset, measure, f"{value.mean:.6g}", f"{value.std:.6g}", value.images, *cells]
                    )
        return text.getvalue()

    def to_json(self, **more: Any) -> str:
        """Recipe, notes, and per method, subset and measure: mean, spread and each seed's value."""
        methods = {
            method: {
                subset: {
                    measure: {
                        "mean": value.mean,
                        "spread": value.std,
                        "seeds": {str(seed): v for seed, v in self.values(method, subset, measure).items()},
                    }
                    for measure, value in measures.items()
                }
                for subset, measures in subsets.items()
            }
            for method, subsets in self.over_seeds().items()
        }
        content = {
            "format": "focus-experiment",
            "version": 1,
            "experiment": self.experiment,
            "seeds": list(self.seeds),
            "recipe": dict(self.recipe),
            "notes": list(self.notes),
            "methods": methods,
            **more,
        }
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
