"""What the emulated board's Python finds first: its clock, its TensorRT and its PyCUDA."""
