"""results.json as a page in Markdown."""

from bench import report

HEAD = 12  # lines of a problem


def render(results: dict) -> str:
    machine = results["machine"]
    names = [f"{gpu['name']} ({_gpu(gpu)})" for gpu in machine.get("gpus", [])]
    lines = [f"# GPU check: {results['status']}", "", f"{', '.join(names) or 'no GPU'}, {results['started']}", ""]
    lines += _machine(machine)
    lines += _steps(results.get("steps", []))
    for step in results.get("steps", []):
        for problem in step["problems"]:
            lines += [f"**{step['name']}** ({step['log']})", "", "```", *problem.splitlines()[:HEAD], "```", ""]
    if "benchmarks" in results:
        lines += _benchmarks(results["benchmarks"])
    if "kernels" in results:
        lines += ["## render_sh, forward and backward, 53k, batch 32, by ncu (each kernel from cold caches)", ""]
        lines += table(["kernel", "us", "MB read", "MB written", "GB/s"], _kernels(results["kernels"]))
    return "\n".join(lines).rstrip() + "\n"


def table(head: list[str], rows: list[list]) -> list[str]:
    if not rows:
        return []
    line = lambda cells: "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    return [line(head), "|" + "---|" * len(head), *map(line, rows), ""]


def _gpu(gpu: dict) -> str:
    memory, cache = f"{gpu['memory_GiB']} GiB", f"{gpu['L2_MiB']} MiB of L2"
    return f"compute capability {gpu['capability']}, {gpu['multiprocessors']} multiprocessors, {memory}, {cache}"


def _machine(machine: dict) -> list[str]:
    rows = []
    for key, value in machine.items():
        if key == "gpus":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item[:12]}" for name, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(value) or "none"
        rows.append([key, value])
    return table(["machine", ""], rows)


def _steps(steps: list[dict]) -> list[str]:
    rows = []
    for step in steps:
        counts = ", ".join(f"{number} {what}" for what, number in step["counts"].items())
        seconds = "" if step["seconds"] is None else f"{step['seconds']:.0f}"
        limit = "" if step["limit"] is None else f"{step['limit']:.0f}"
        rows.append([step["name"], step["status"], seconds, limit, "; ".join(filter(None, [counts, *step["notes"]]))])
    return table(["step", "status", "seconds", "of", ""], rows)


def _kernels(kernels: list[dict]) -> list[list[str]]:
    rows = [(k["kernel"], k["us"], k["MB_read"], k["MB_written"]) for k in kernels]
    rows.append(("all", *(sum(row[k] for row in rows) for k in (1, 2, 3))))
    speed = lambda us, read, written: f"{1e3 * (read + written) / us:.0f}" if us else "-"
    return [[name, *(f"{x:.1f}" for x in numbers), speed(*numbers)] for name, *numbers in rows]


def _benchmarks(figures: dict) -> list[str]:
    return ["## Benchmarks", "", *report.lines(report.Run.of(figures)), ""]
