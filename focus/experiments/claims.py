"""The paper's claims as hypotheses, each held against our numbers seed by seed."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev

from ..evaluation.tables import PRIOR
from .configurations import ABLATION, BASELINES, ETAS, FOCUS
from .faces import HELD_OUT, SEEN
from .results import Results

HOLDS, MOSTLY, FAILS, UNKNOWN = "holds", "holds on average only", "does not hold", "not measured"
BARELY = 0.02  # of F1: how much eta_5 may move it and still "barely affect" it


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        text: what is claimed.
        verdict: "holds" for every seed, "holds on average only", "does not hold", or "not measured".
        numbers: those that it was judged by.
    """

    text: str
    verdict: str
    numbers: str


def check_claims(results: Results) -> list[Claim]:
    """Every claim that an experiment can speak about."""
    if results.experiment == ABLATION:
        found = []
        for subset in (HELD_OUT, SEEN):
            for better, worse in ((FOCUS, "Neighbor"), ("Neighbor", "Baseline"), ("Baseline", "Pretrained")):
                found.append(_greater(results, "F1", "f1", subset, better, worse))
        found += _under_occlusion(results, FOCUS, ("Pretrained",))
        return found + _prior(results)
    if results.experiment == BASELINES:
        found = [_greater(results, "F1", "f1", HELD_OUT, FOCUS, "Deep3D (skin colour)")]
        for masked in ("Backbone-Supervised", FOCUS):
            found += _under_occlusion(results, masked, ("Backbone", "MoFA"))
        return found + _prior(results)
    return _sweep(results)


def claims_table(claims: list[Claim]) -> str:
    """A Markdown table."""
    from ..evaluation.tables import markdown

    return markdown(["Claim", "Verdict", "Numbers"], [[c.text, f"**{c.verdict}**", c.numbers] for c in claims])


def _under_occlusion(results: Results, masked: str, others: tuple[str, ...]) -> list[Claim]:
    measures = (("RMSE", "rmse"), ("vertex error", "vertex_error"), ("aligned vertex error", "vertex_error_aligned"))
    return [
        _greater(results, name, measure, subset, other, masked, low=True)
        for other in others
        for subset in (HELD_OUT, SEEN)
        for name, measure in measures
    ]


def _greater(
    results: Results, name: str, measure: str, subset: str, more: str, less: str, *, low: bool = False
) -> Claim:
    """That one method's number exceeds another's; `low` words it for errors, as that the second's is lower."""
    first, second = (results.values(method, subset, measure) for method in (more, less))
    text = f"{name} of {less} below {more}'s" if low else f"{name} of {more} above {less}'s"
    return _judge(f"{text}, {subset}", [first[s] - second[s] for s in first if s in second], first, second)


def _prior(results: Results) -> list[Claim]:
    """That the misfit prior lowers the shape error, averaged over the methods."""
    found = []
    for name, measure in (("vertex error", "vertex_error"), ("aligned vertex error", "vertex_error_aligned")):
        gains, before, after = [], {}, {}
        for seed in results.seeds:
            pairs = []
            for method in results.methods:
                one = results.values(method, "overall", measure).get(seed)
                two = results.values(method, "overall", measure + PRIOR).get(seed)
                if one is not None and two is not None:
                    pairs.append((one, two))
            if pairs:
                before[seed], after[seed] = fmean(p[0] for p in pairs), fmean(p[1] for p in pairs)
                gains.append(before[seed] - after[seed])
        found.append(_judge(f"the misfit prior lowers the {name}, mean of all methods", gains, before, after))
    return found


def _sweep(results: Results) -> list[Claim]:
    """Supplement B.4: what each eta does to how much is masked, and how little eta_5 does."""
    directions = {"neighbor": 1, "distance": 1, "area": -1, "preserve": -1}
    found = []
    for number, eta in enumerate(ETAS, 1):
        names = [name for name in results.methods if name.startswith(f"eta{number} ")]
        if not names:
            continue
        factors = {name: float(name.rsplit(" ", 1)[1]) for name in names}
        lowest, highest = min(names, key=factors.__getitem__), max(names, key=factors.__getitem__)
        if eta in directions:
            first, second = (
                results.values(name, "overall", "occluded_fraction")
                for name in ((highest, lowest) if directions[eta] > 0 else (lowest, highest))
            )
            more = "more" if directions[eta] > 0 else "less"
            text = f"a larger eta{number} ({eta}) masks {more} of the face: {factors[lowest]:g} to {factors[highest]:g}"
            found.append(_judge(text, [first[s] - second[s] for s in first if s in second], first, second))
            continue
        means = [fmean(v.values()) for name in [FOCUS, *names] if (v := results.values(name, "overall", "f1"))]
        if len(means) > 1:
            spread = max(means) - min(means)
            verdict = HOLDS if spread <= BARELY else FAILS
            numbers = f"F1 {min(means):.3f} to {max(means):.3f}"
            found.append(Claim(f"eta{number} ({eta}) barely affects F1 (by {BARELY} at most)", verdict, numbers))
    return found


def _judge(text: str, gains: list[float], first: dict[int, float], second: dict[int, float]) -> Claim:
    """The verdict on gains, one per seed, that ought to be positive."""
    if not gains:
        return Claim(text, UNKNOWN, "-")
    mean = fmean(gains)
    verdict = HOLDS if min(gains) > 0 else MOSTLY if mean > 0 else FAILS
    spread = f" ± {stdev(gains):.3f}" if len(gains) > 1 else ""
    one, two = fmean(first.values()), fmean(second.values())
    wins = sum(gain > 0 for gain in gains)
    return Claim(text, verdict, f"{one:.3f} and {two:.3f}; by {mean:.3f}{spread}, {wins} of {len(gains)} seeds")
