"""The power sources of one run: started before it, read around all of it, stopped after it.

Each is told as an event `{"kind": "source", "source": index, "argv", "settings"}` when it has
started; its lines leave as `{"kind": "power", "source": index, "lines": [[stamp, line], ...]}`,
and `{"kind": "source_ended", "source": index}` says that it ended by itself.
"""

from .clock import board_sleep
from .power import open_source, require

TRAILING_LINES = 3
"""Lines past the end of a window, so that its edge lies between two of them."""
_PATIENCE_S = 2.0
_TRIES = 5


def require_all(board, specs):
    """Refuses what cannot be read here, before anything is started.

    Raises:
        AgentError: `no_power`, for the first source that the board has not.
    """
    for spec in specs:
        require(board, spec)


class Meters:
    """Every source that was asked for; use as a context manager so that all of them end.

    Args:
        board: where they run.
        store: where their errors go.
        specs: as `plans.sources` gives them; may be empty.
        job: the request that the lines belong to.
    """

    def __init__(self, board, store, specs, job):
        self._board = board
        self._store = store
        self._specs = specs
        self._job = job
        self._open = []
        self._ended = []

    def __enter__(self):
        try:
            for index, spec in enumerate(self._specs):
                forward = self._forward(index)
                ended = self._ending(index)
                source = open_source(self._board, self._store, spec, forward, ended)
                self._open.append(source)
                about = {"argv": list(source.argv), "settings": dict(source.settings)}
                self._job.emit(dict(about, kind="source", source=index))
            self._first_lines()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind is None and self._open:
            try:
                board_sleep(TRAILING_LINES * self._longest_s(), self._job.check)
            finally:
                self._stop()
        else:
            self._stop()

    def flush(self):
        """Sends every line stamped so far."""
        for source in self._open:
            source.flush()

    def hurry(self, after_ns):
        """Lets the first lines past that moment leave as soon as they are there."""
        for source in self._open:
            source.hurry(after_ns, TRAILING_LINES)

    def told(self):
        """After the end, what each source was and said of itself; `exit` None: until stopped."""
        return [
            {
                "source": spec["source"],
                "argv": list(source.argv),
                "settings": dict(source.settings),
                "exit": ended,
            }
            for spec, source, ended in zip(self._specs, self._open, self._ended)
        ]

    def _forward(self, index):
        def forward(lines):
            self._job.emit({"kind": "power", "source": index, "lines": lines})

        return forward

    def _ending(self, index):
        def ended():
            self._job.emit({"kind": "source_ended", "source": index})

        return ended

    def _first_lines(self):
        """Lets board time pass until each speaks: on an emulated board none passes alone."""
        for source in self._open:
            for _ in range(_TRIES):
                board_sleep(0.1 + 2 * self._longest_s(), self._job.check)
                if source.wait_first_line(_PATIENCE_S):
                    break
            else:
                raise source.silent()

    def _longest_s(self):
        return max(spec["interval_ms"] for spec in self._specs) / 1000.0

    def _stop(self):
        self._ended = [source.stop() for source in self._open]
