"""The numbers to reach. Benchmarks report what they measured; the table is printed at the end of a run.

A number that was stated for other hardware is shown beside what this machine does, and not judged.
"""

from dataclasses import dataclass, field

ONE_THREAD = "one thread"
QUIET = 0.1  # cores; more spoils a wall time
NEEDS = {
    "avx512": "stated for AVX-512, this machine runs {isa}",
    "cuda": "needs a GPU",
}


@dataclass
class Target:
    """One row: `reached` has to be at least (or at most) `bound`, in `unit`."""

    what: str
    bound: float | None  # None: for information
    unit: str
    at_least: bool = True
    needs: str = ""
    reached: float | None = None
    note: str = ""
    disturbance: float = 0.0  # cores that other programs used meanwhile

    def asked(self) -> str:
        if self.bound is None:
            return "-"
        return f"{'>=' if self.at_least else '<='} {self.bound:g} {self.unit}"

    def verdict(self, isa: str) -> str:
        if self.reached is None:
            return NEEDS["cuda"] if self.needs == "cuda" else "not measured in this run"
        if self.bound is None:
            return "for information"
        if self.needs == "avx512" and isa != "avx512":
            return NEEDS["avx512"].format(isa=isa)
        if self.ratio() < 1 and self.disturbance > QUIET:
            return f"not judged: other programs used {self.disturbance:.1f} cores meanwhile"
        return "reached" if self.ratio() >= 1 else "missed"

    def ratio(self) -> float | None:
        """Reached over asked for: 1 or more is good, whichever way the bound points."""
        if self.reached is None or self.bound is None:
            return None
        return self.reached / self.bound if self.at_least else self.bound / max(self.reached, 1e-12)


def renderer() -> dict[str, Target]:
    """53k vertices, 106k faces, 224x224, 32 different poses; CPU rows in one thread unless they say otherwise."""
    return {
        "forward/deodr": Target("render_sh forward against deodr, edges off", 8, "times", needs="avx512"),
        "both/deodr": Target(
            "render_sh forward + backward against deodr as documented (silhouette edges, sigma 1)",
            8,
            "times",
            needs="avx512",
        ),
        "both/deodr without edges": Target("the same against deodr, edges off", None, "times"),
        "both/deodr Scene3D": Target(
            "the same against deodr's Scene3D, its own projection and light included", None, "times"
        ),
        "forward/threads": Target("render_sh forward, two threads against one", 1.6, "times"),
        "both/threads": Target("render_sh forward + backward, two threads against one", 1.6, "times"),
        "rasterize": Target("rasterize forward per image and thread", 1.0, "ms", at_least=False, needs="avx512"),
        "rasterize/memory": Target(
            "rasterize: what a batch of 32 takes beyond its outputs and the scratch of a batch of 1",
            0.1,
            "MB",
            at_least=False,
        ),
        "compat.pytorch3d/recorded": Target(
            "compat.pytorch3d.rasterize_meshes forward against PyTorch3D's recorded 14.7 s an image", 5000, "times"
        ),
        "compat.pytorch3d/render_sh": Target(
            "compat.pytorch3d.rasterize_meshes forward, as a part of render_sh's time", 1.3, "times", at_least=False
        ),
        "compat.sim3dr": Target("compat.sim3dr rasterize per image and thread", 2.8, "ms", at_least=False),
        "fit": Target("focus fit of the demo's photo, 10k vertices, two threads", 20, "s", at_least=False),
        "fit/rmse": Target("its photometric RMSE inside the mask, of 255 levels", None, "levels"),
        "fit/inliers": Target("the part of its render that the mask covers", None, "%"),
        "forward/cuda": Target("render_sh forward of the batch on an H100", 100, "us", at_least=False, needs="cuda"),
        "backward/cuda": Target("render_sh backward of the batch on an H100", 150, "us", at_least=False, needs="cuda"),
        "compat.nvdiffrast/cuda": Target(
            "compat.nvdiffrast rasterize + interpolate, forward + backward, against nvdiffrast",
            1.5,
            "times",
            needs="cuda",
        ),
    }


def training() -> dict[str, Target]:
    """Batch 12, 224x224, forward + backward, in two threads unless they say otherwise."""
    rows = {}
    for op, plain, compiled in (("neighbor_min_loss", 20, 4), ("masked_pixel_loss", 4, 1.2)):
        rows[f"{op}/plain torch"] = Target(f"{op} against plain torch", plain, "times")
        rows[f"{op}/torch.compile"] = Target(f"{op} against torch.compile", compiled, "times")
        rows[f"{op}/memory"] = Target(f"{op}: peak of memory, gradients included", 1.4, "image batches", at_least=False)
        rows[f"{op}/cuda"] = Target(f"{op}: share of the bandwidth of a copy", 80, "%", needs="cuda")
    rows["blend/torch.matmul"] = Target(
        "blend of 224 components at 53k against torch's matmul, least of all", 1, "times"
    )
    rows["blend/bfloat16"] = Target("the same at batch 1, forward, the basis in bfloat16", 1.6, "times")
    rows["blend/cuda"] = Target("blend against cuBLAS, least of all batches", 1.3, "times", needs="cuda")
    rows["step/plain torch"] = Target("training step without networks, 10k vertices, against plain torch", 20, "times")
    return rows


@dataclass
class Report:
    """What one run has to say beyond pytest-benchmark's own table."""

    targets: dict[str, Target] = field(default_factory=lambda: renderer() | training())
    races: list[dict] = field(default_factory=list)

    def reach(self, key: str, value: float, note: str = "", disturbance: float = 0.0) -> None:
        target = self.targets[key]
        target.reached, target.note, target.disturbance = value, note, disturbance

    def rows(self, isa: str) -> list[dict]:
        """The table as data, for the JSON file."""
        return [
            {"key": key, "what": t.what, "target": t.asked(), "reached": t.reached, "unit": t.unit}
            | {"ratio": t.ratio(), "verdict": t.verdict(isa), "note": t.note}
            for key, t in self.targets.items()
        ]

    def lines(self, isa: str) -> list[str]:
        """Three tables in Markdown: all benchmarks, their peers, and the numbers to reach."""
        places = list(dict.fromkeys(f"{r['place']}, {r['clock']}" for r in self.races))
        measured: dict[str, dict[str, str]] = {}
        faster: dict[str, str] = {}
        peers = []
        for r in self.races:
            own = f"{r['median']:.3f} ({r['min']:.3f})"
            measured.setdefault(r["title"], {}).setdefault(f"{r['place']}, {r['clock']}", own)
            for peer, p in r["peers"].items():
                ratio = f"{p['ratio']:.2f} ({p['ratio_low']:.2f} - {p['ratio_high']:.2f})"
                if peer == ONE_THREAD:
                    faster[r["title"]] = ratio
                else:
                    peers.append([r["title"], own, peer, f"{p['median']:.3f} ({p['min']:.3f})", ratio])
        all_rows = [[name, *(at.get(p, "-") for p in places), faster.get(name, "-")] for name, at in measured.items()]
        targets = []
        for t in self.targets.values():
            reached = "-" if t.reached is None else f"{t.reached:.3g} {t.unit}"
            ratio = t.ratio()
            share = "-" if ratio is None else f"{ratio:.2f}"
            targets.append([t.what, t.asked(), reached, share, "; ".join(filter(None, [t.verdict(isa), t.note]))])
        tables = [
            (["ms per image: median (min)", *places, "threads over one, wall time: median ratio (range)"], all_rows),
            (["ms per image: median (min)", "ours", "peer", "peer's", "median ratio (range)"], peers),
            (["numbers to reach", "target", "reached", "reached / target", ""], targets),
        ]
        return [line for head, rows in tables if rows for line in [*markdown(head, rows), ""]]


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    line = lambda cells: "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
    return [line(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows)]
