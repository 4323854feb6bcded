"""The power source that every Jetson has: tegrastats."""

from .errors import AgentError


# assumes: rails-without-root, instances-side-by-side, no-leftover-of-tegrastats, interval-flag
def start(board, spec):
    """Command line and settings.

    Raises:
        AgentError: `no_power` where the board has none.
    """
    program = board.tegrastats()
    if program is None:
        raise AgentError(
            "no_power",
            "this board has no tegrastats, so there is no power to measure",
            "it is neither on %s nor in the home folder" % board.path,
            "measure on a Jetson, or set `power: {source: none}` for latency alone",
        )
    return [program, "--interval", str(spec["interval_ms"])], {}
