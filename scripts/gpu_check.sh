#!/usr/bin/env bash
# scripts/gpu_check.sh [OUT_DIR]: builds the kernels for the GPU of this machine, checks and times them, in under nine
# minutes and without network; what it found is in OUT_DIR/summary.md. See bench/results/README.md. Exit code: 0 all
# passed, 1 a step did not, 2 no GPU. PYTHON names another python3, one that has torch and pytest.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH="$scripts:$scripts/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m gpu_check "$@"
