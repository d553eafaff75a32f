"""FOCUS: model-based face reconstruction that knows what covers the face. The kernels are in `focus_kernels`."""
