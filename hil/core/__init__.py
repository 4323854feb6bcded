"""Pure core: no I/O, no clock, no randomness of its own; importable in a bare Python with numpy."""
