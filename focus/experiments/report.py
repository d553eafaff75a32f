"""The tables of an experiment as Markdown."""

from __future__ import annotations

from ..evaluation.evaluate import UNOCCLUDED
from ..evaluation.tables import mask_table, rmse_table, shape_table
from .claims import Claim, claims_table
from .configurations import ABLATION, BASELINES, WHOLE
from .faces import HELD_OUT, HELD_OUT_KINDS, SEEN, SUBSETS, TRAIN_KINDS
from .plan import Plan
from .results import Results

TITLES = {
    ABLATION: "Ablation (Table 5 of the paper)",
    BASELINES: "Baselines (Tables 1 to 4 of the paper, and its supplement)",
}
ALL = (*SUBSETS, "overall")


def markdown_report(plan: Plan, results: Results, claims: list[Claim], photos: Results | None = None) -> str:
    """What was done, the tables in the paper's form, and what became of the paper's claims."""
    table = results.over_seeds()
    masked = {item.name: table[item.name] for item in plan.configurations if item.mask != WHOLE and item.name in table}
    settings, preset = plan.settings, plan.settings.preset
    seeds = ", ".join(map(str, results.seeds))
    spread = "± is the sample standard deviation over seeds" if len(results.seeds) > 1 else "one seed: no spread (± 0)"
    parts = [
        f"# {TITLES.get(plan.experiment, 'Weights of the segmentation (Fig. 4 of the paper)')}",
        f"Preset {settings.name}: encoder {settings.encoder}, {settings.size} px, S of width "
        f"{settings.segmentation_width}, batch {preset.batch_size}; {preset.initialisation.iterations} iterations of "
        f"initialisation and {preset.pretraining.iterations} of S's pre-training, shared by the methods of a seed, "
        f"then {preset.em.iterations} of EM. Seeds {seeds}; {spread}.",
        f"Measured on {plan.faces} synthetic faces of each subset, never trained on: {UNOCCLUDED}; {SEEN} "
        f"({', '.join(TRAIN_KINDS)}); {HELD_OUT} ({', '.join(HELD_OUT_KINDS)}), which no method's data have. Their "
        "backgrounds, patterns and textures, are held out too. -MP: after the misfit prior of the same seed.",
    ]
    parts += [f"- {note}" for note in results.notes]
    parts += ["## Masks inside the rendered region, soft", mask_table(masked, subsets=ALL)]
    parts += ["## Masks inside the rendered region, rounded", mask_table(masked, rounded=True, subsets=ALL)]
    parts += ["## RMSE (0-255) inside ground truth x render", rmse_table(table, subsets=ALL)]
    parts += ["## Vertex error (mm)", shape_table(table, subsets=ALL)]
    if photos is not None:
        found = photos.over_seeds()
        measures = {key for rows in found.values() for values in rows.values() for key in values}
        parts += ["## Real photographs: landmark error (px)", rmse_table(found, measure="landmark_error")]
        if "landmark_error_interocular" in measures:
            parts += [
                "## Real photographs: landmark error over the distance of the outer eye corners (%)",
                rmse_table(found, measure="landmark_error_interocular"),
            ]
    parts += ["## The paper's claims", claims_table(claims)]
    return "\n\n".join(parts) + "\n"
