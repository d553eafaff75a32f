"""Other people's renderer interfaces on these kernels: one module per upstream package."""
