"""Hardware-in-the-loop toolkit for edge inference."""
