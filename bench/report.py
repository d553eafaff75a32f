"""`python -m bench.report RUN.json`: one table of a run, in Markdown and as a plot.

RUN.json is what `pytest bench/ --benchmark-only --benchmark-json=RUN.json`, or `python -m bench.gpu --json RUN.json`,
wrote.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .targets import ONE_THREAD, markdown
from .yardstick import baseline

HEAD = ["", "where", "ms per image", "times faster than", "bytes moved / least", "share of the bandwidth"]
COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c")


@dataclass(frozen=True)
class Run:
    machine: dict  # what a time cannot be compared without
    races: list[dict]
    targets: list[dict]

    @staticmethod
    def of(document: dict) -> "Run":
        if "races" in document:  # of bench.gpu
            return Run(document["machine"], document["races"], document["targets"])
        races = [b["extra_info"] for b in document["benchmarks"] if "title" in b["extra_info"]]
        return Run(document["machine_info"]["focus_kernels"], races, document.get("targets", []))

    def raced(self) -> "Run":
        """Only what ran beside another program."""
        return Run(self.machine, [race for race in self.races if peers_of(race)], self.targets)

    def with_texts(self, texts: Sequence[str]) -> "Run":
        """Only what has all of them in its name, which ends with the place."""
        races = [race for race in self.races if all(text in f"{race['title']}, {race['place']}" for text in texts)]
        return Run(self.machine, races, self.targets)


def peers_of(race: dict) -> dict[str, dict]:
    return {name: peer for name, peer in race["peers"].items() if name != ONE_THREAD}


def lines(run: Run) -> list[str]:
    """The machine, the table of all benchmarks, and the numbers to reach that were measured."""
    rows = []
    for race in run.races:
        faster = [
            f"{name}: {peer['ratio']:.3g} ({peer['ratio_low']:.3g} - {peer['ratio_high']:.3g})"
            for name, peer in race["peers"].items()
        ]
        moved = f"{race['bytes_moved'] / race['bytes_least']:.2f}" if race["bytes_least"] else "-"
        where = f"{race['place']}, {race['clock']}"
        rows.append([race["title"], where, f"{race['median']:.4g}", "; ".join(faster) or "-", moved])
        rows[-1].append(f"{100 * race['share']:.3g} %")
    speeds = {race["place"]: race["bandwidth"] for race in run.races}
    copies = ", ".join(f"{place}: {speed / 1e9:.4g} GB/s" for place, speed in speeds.items())
    told = "; ".join(f"{key}: {value}" for key, value in run.machine.items() if value not in (None, []))
    found = [f"{told}; a copy reads and writes {copies}", "", *markdown(HEAD, rows)]
    targets = [
        [
            row["what"],
            row["target"],
            f"{row['reached']:.3g} {row['unit']}",
            "; ".join(filter(None, [row["verdict"], row["note"]])),
        ]
        for row in run.targets
        if row["reached"] is not None
    ]
    return found + (["", *markdown(["numbers to reach", "asked", "reached", ""], targets)] if targets else [])


def plot(run: Run, file: Path) -> None:
    """How many times faster each benchmark is than its peers, as a picture (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    races = run.raced().races
    bars = [(race, name, peer) for race in reversed(races) for name, peer in reversed(peers_of(race).items())]
    colors = dict(
        zip(dict.fromkeys(name for race in races for name in peers_of(race)), COLORS * len(bars), strict=False)
    )
    figure = Figure(figsize=(10, 1.3 + 0.27 * len(bars)), layout="constrained")
    axes = figure.subplots()
    for y, (_, name, peer) in enumerate(bars):
        reach = [[peer["ratio"] - peer["ratio_low"]], [peer["ratio_high"] - peer["ratio"]]]
        axes.barh(y, peer["ratio"], color=colors[name], xerr=reach, error_kw={"lw": 0.8, "ecolor": "#555555"})
        axes.annotate(
            f"{peer['ratio']:.3g}", (peer["ratio_high"], y), (4, 0), textcoords="offset points", va="center", size=8
        )
    for name, color in colors.items():
        axes.barh(0, 0, color=color, label=name)
    axes.set_yticks(range(len(bars)), [f"{race['title']}, {race['place']}" for race, _, _ in bars], size=8)
    axes.set_xscale("log")
    axes.axvline(1, color="black", lw=1)
    axes.set_xlabel("times faster than the peer: median of the rounds, and their range")
    axes.set_title(_short(run.machine), size=9)
    axes.set_xlim(
        min(1.0, *(peer["ratio_low"] for *_, peer in bars)) / 1.2, 1.6 * max(peer["ratio_high"] for *_, peer in bars)
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.01)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    FigureCanvasAgg(figure).print_png(file)


def _short(machine: dict) -> str:
    gpus = machine.get("gpus") or [f"{machine['cpu_name']}, {machine['cores']} cores, {machine['isa']}"]
    return f"{gpus[0]}; torch {machine['torch']}; commit {machine['commit']}"


def _write(file: Path, write) -> None:
    """`write` gets the path of a new file, which then takes the place of `file`."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        write(Path(name))
        Path(name).chmod(0o644)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.partition("\n")[2])
    parser.add_argument("json", type=Path, metavar="RUN.json")
    parser.add_argument("--peers", action="store_true", help="only what was raced against another program")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="only what has TEXT in its name; may be repeated"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also write the plot (needs matplotlib)")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE.json", help="also write the ratios to compare later runs with"
    )
    args = parser.parse_args(arguments)
    try:
        document = json.loads(args.json.read_text(encoding="utf-8"))
        run = Run.of(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{args.json} is not the JSON file of a run: {error!r}")
    run = (run.raced() if args.peers else run).with_texts(args.only)
    if not run.races:
        parser.error(f"{args.json} has no such times in it" if args.peers or args.only else f"{args.json} has no times")
    print("\n".join(lines(run)))
    if args.plot:
        _write(args.plot, lambda file: plot(run, file))
    if args.baseline:
        text = json.dumps(baseline(document), indent=1) + "\n"
        _write(args.baseline, lambda file: file.write_text(text, encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
