"""`hil`: the verbs, and the one place that turns an error into a message and an exit code.

Rule of this file: verbs are one file each and import what they need when they run, so that
`hil --help` is quick and loads neither torch nor onnx.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import traceback
from types import FrameType
from typing import NoReturn

import typer

from hil.cli import (
    bench,
    bringup,
    bundle,
    check,
    compare,
    device,
    doctor,
    emulate,
    export,
    gate,
    generate,
    profile,
    report,
    rescore,
    synthesize,
    verify,
)
from hil.cli.terminal import print_error, say
from hil.core.errors import ExitCode, InterruptedRunError, Told

app = typer.Typer(
    name="hil",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Synthesize neural networks that fit an energy and latency budget on a real board, "
    "and measure joules you can trust. Exit codes: 0 good, 1 limit violated, 2 usage or "
    "configuration, 3 board, 4 lease timeout, 5 measurement invalid or inconclusive, 6 export "
    "or engine build, 7 parity, 8 this host, 70 internal error, 130 interrupted.",
)
for _verb in (
    synthesize,
    profile,
    compare,
    gate,
    check,
    rescore,
    doctor,
    bringup,
    emulate,
    export,
    report,
    bundle,
    verify,
    generate,
):
    _verb.register(app)
app.add_typer(device.app, name="device")
app.add_typer(bench.app, name="bench")


def main() -> NoReturn:
    """Run the command line and exit with the code of the contract."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except Told as error:
        print_error(error)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        # Code 1 is typer's for a question nobody answered; ours means a broken limit, and never
        # comes this way.
        if ended.code != ExitCode.LIMIT_VIOLATED:
            raise
        if isinstance(ended.__context__, BrokenPipeError):  # who read our output has seen enough
            sys.exit(ExitCode.GOOD)
        sys.exit(ExitCode.USAGE)
    except BrokenPipeError:
        sys.exit(ExitCode.GOOD)
    except Exception as error:  # noqa: BLE001 - the last door: a person must never see a traceback
        sys.exit(_internal(error))
    sys.exit(ExitCode.GOOD)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    # A second Ctrl-C must end the program at once, even inside clean-up.
    signal.signal(number, signal.SIG_DFL)
    raise InterruptedRunError(f"interrupted by {signal.Signals(number).name}")


def _internal(error: Exception) -> int:
    with tempfile.NamedTemporaryFile(
        "w", prefix="hil-internal-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write("".join(traceback.format_exception(error)))
    say(f"internal error: {type(error).__name__}: {error}")
    say(f"this is a fault of hil, not yours; the details are in {file.name}: please report them")
    return ExitCode.INTERNAL


if __name__ == "__main__":
    main()
