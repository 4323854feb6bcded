"""The part of hil that runs on the board: Python 3.6, standard library, nothing from `hil`.

Shipped as a zipapp; leases the board, pins its clocks, builds and runs engines in a worker child,
stamps power lines with the board's clock and sends raw evidence home as JSON lines.
"""

__version__ = "0.1.0"
