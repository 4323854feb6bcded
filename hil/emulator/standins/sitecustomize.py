"""Puts every Python program of the emulated board on the board's clock before it starts."""

import os
import sys

if "HIL_BOARD_CLOCK" in os.environ:
    try:
        from hil.emulator import boardtime

        boardtime.install()
        if os.environ.get("HIL_BOARD_RELEASE") == "r28":
            # JetPack 3 has neither: importing them fails as it does there.
            sys.modules["tensorrt"] = sys.modules["pycuda"] = None  # type: ignore[assignment]
        if "HIL_BOARD_QUIRKS" in os.environ:
            from hil.emulator.hostile import pythonside

            pythonside.install(boardtime.current())
    except OSError as error:
        sys.stderr.write(f"the emulated board is gone: {error}\n")
        sys.stderr.flush()
        os._exit(70)
