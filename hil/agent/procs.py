"""Child processes that cannot outlive or block the agent.

Rule of this file: `subprocess` timeouts are never used. They read `time.monotonic` and call
`time.sleep`, which is board time (see `clock`); waiting here is `select` and `Event.wait`.
"""

import ctypes
import os
import select
import signal
import subprocess
import threading

from .clock import Deadline

_PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl
_POLL_S = 0.02
_CHUNK = 65536


class Completed:
    """How a command ended: exit status (None: it had to be killed), and what it printed."""

    def __init__(self, status, output, errors):
        self.status = status
        self.output = output
        self.errors = errors

    def tail(self, lines=6):
        """The end of what it printed, for an error message."""
        both = (self.output + "\n" + self.errors).strip().splitlines()
        return "\n".join(both[-lines:])


class Children:
    """Every live child of this process, so that the last act can be to end them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._live = set()

    def spawn(self, argv, **pipes):
        """Starts a child in its own process group that dies when the agent does.

        `pipes` are stdin, stdout, stderr and env of `subprocess.Popen`. Must be called on a
        thread that lives as long as the agent: Linux sends the death signal when the *thread*
        that forked ends.
        """
        parent = os.getpid()

        def die_with_parent():
            _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # it died between fork and prctl
                os._exit(127)

        # The function only makes two calls that were bound before the fork: it takes no lock
        # that another thread could hold at that moment.
        process = subprocess.Popen(
            argv,
            preexec_fn=die_with_parent,  # noqa: PLW1509
            start_new_session=True,
            close_fds=True,
            **pipes,
        )
        with self._lock:
            self._live.add(process)
        return process

    def forget(self, process):
        """Takes an ended child off the list and closes its pipes."""
        with self._lock:
            self._live.discard(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                close_quietly(pipe)

    def kill_all(self):
        """Kills every child's group at once; safe from any thread."""
        with self._lock:
            live = list(self._live)
        for process in live:
            signal_group(process, signal.SIGKILL)


def close_quietly(pipe):
    """Closes a pipe whose reader may be gone."""
    try:
        pipe.close()
    except OSError:
        pass


def signal_group(process, number):
    """Signals the child's whole process group; an ended child is fine."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass


def wait_exit(process, seconds):
    """Waits at most that long (liveness time); returns the exit status or None."""
    deadline = Deadline(seconds)
    pause = threading.Event()
    while process.poll() is None and not deadline.passed():
        pause.wait(_POLL_S)
    return process.poll()


def stop(children, process, grace_s=2.0):
    """Ends a child: asks, waits, kills. Returns its exit status."""
    signal_group(process, signal.SIGTERM)
    if wait_exit(process, grace_s) is None:
        signal_group(process, signal.SIGKILL)
    status = process.wait()
    children.forget(process)
    return status


def run(children, argv, timeout_s=30.0, given=None, env=None):
    """Runs a fixed command line to its end, without a shell.

    Args:
        children: the registry that owns it.
        argv: program (absolute path) and arguments.
        timeout_s: liveness seconds after which its group is killed.
        given: bytes for its stdin; None gives it /dev/null.
        env: its environment, None for the agent's own.

    Returns:
        `Completed`, output decoded leniently.
    """
    process = children.spawn(
        argv,
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    if given is not None:
        try:
            process.stdin.write(given)
            process.stdin.flush()
        except BrokenPipeError:
            pass
        close_quietly(process.stdin)
    output, errors = _drain(process, Deadline(timeout_s))
    # Whoever closed its pipes may still have work to do, but not for longer than it was given.
    status = wait_exit(process, 1.0)
    if status is None:
        signal_group(process, signal.SIGKILL)
        process.wait()
    children.forget(process)
    return Completed(status, _text(output), _text(errors))


def _drain(process, deadline):
    kept = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    open_pipes = set(kept)
    while open_pipes and not deadline.passed():
        ready, _, _ = select.select(list(open_pipes), [], [], min(deadline.left_s(), 0.5))
        for handle in ready:
            data = os.read(handle, _CHUNK)
            if data:
                kept[handle] += data
            else:
                open_pipes.discard(handle)
    if deadline.passed():
        signal_group(process, signal.SIGKILL)
    return kept[process.stdout.fileno()], kept[process.stderr.fileno()]


def _text(data):
    return bytes(data).decode("utf-8", "replace")
