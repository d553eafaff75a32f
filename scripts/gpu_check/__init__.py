"""What scripts/gpu_check.sh runs: builds, checks and times the kernels on the GPU of a machine, and writes it down."""
