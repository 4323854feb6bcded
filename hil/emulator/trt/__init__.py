"""What stands behind the TensorRT and PyCUDA stand-ins: plans, parser limits, timing, numerics."""
