"""`python -m gpu_check [OUT_DIR]`: 0 when all steps passed, 1 when one did not, 2 without a GPU."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from .runner import ROOT, RUNNING, run
from .steps import PROBE_SECONDS, STEPS


def main() -> int:
    start = time.monotonic()
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description="Builds, checks and times the kernels on a GPU.")
    parser.add_argument("out", nargs="?", metavar="OUT_DIR", help="default: bench/results/GPU-DATE")
    where = parser.parse_args().out
    # What the steps import: this checkout, what its tests share, and whatever the caller has added.
    paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would the steps
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the step that runs is ended as well
    machine = probe()
    if machine.get("why"):
        print(f"gpu_check.sh: no GPU to check: {machine['why']}", file=sys.stderr)
        return 2
    now = datetime.now(timezone.utc)
    name = re.sub(r"[^a-z0-9]+", "-", machine["gpus"][0]["name"].lower()).strip("-")
    out = Path(where) if where else ROOT / "bench" / "results" / f"{name}-{now:%Y-%m-%d}"
    results = {"format": 1, "started": f"{now:%Y-%m-%d %H:%M} UTC", "status": RUNNING, "machine": machine}
    code = run(STEPS, out.resolve(), results, start + PROBE_SECONDS)
    print(f"{results['status']}: {out / 'summary.md'}")
    return code


def probe() -> dict:
    """In a process of its own: a GPU in trouble may hang or kill whoever asks it."""
    command = [sys.executable, "-m", "gpu_check.machine"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=6 * PROBE_SECONDS)
        return json.loads(answer.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"why": "looking for one took too long"}
    except (IndexError, ValueError):
        return {"why": f"looking for one ended with {answer.returncode}: {answer.stderr.strip()[-300:]}"}


if __name__ == "__main__":
    sys.exit(main())
