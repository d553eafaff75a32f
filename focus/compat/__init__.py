"""Other programs' interfaces to FOCUS on these networks; those of renderers are in `focus_kernels.compat`."""
