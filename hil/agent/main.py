"""Starts the agent: `serve` for the host on stdin and stdout; `worker` and `sample` for itself.

`selftest` tries out whether this Python carries it.
"""

import argparse
import os
import sys

from . import __version__, sampling, selftest, server, worker
from .blobs import Store
from .board import Board, default_path
from .clocks import Clocks
from .errors import AgentError
from .lease import Lease
from .methods import Methods
from .outbox import Outbox
from .procs import Children
from .runner import Runner
from .selfstart import own_argv


def main(argv):
    """Runs one subcommand.

    Args:
        argv: arguments without the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="hil-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb")
    for verb in ("serve", "worker", "sample", "selftest"):
        one = verbs.add_parser(verb)
        one.add_argument("--root", default="/", help="the board's root folder")
        if verb == "serve":
            one.add_argument("--path", default=None, help="where programs are looked for")
        if verb in ("serve", "worker"):
            one.add_argument("--plugin", default=None, help="module of this host's own runtimes")
        if verb == "sample":
            sampling.add_arguments(one)
    given = parser.parse_args(argv)
    if given.verb is None:
        parser.error("one of serve, worker, sample, selftest is needed")
    root = os.path.abspath(given.root)
    if given.verb == "selftest":
        return selftest.main()
    if given.verb == "worker":
        return worker.main(root, given.plugin)
    if given.verb == "sample":
        return sampling.main(given, root)
    return serve(root, given.path or default_path(root), given.plugin)


# assumes: agent-on-python-36
def serve(root, path, plugin=None):
    """Serves the host until it is gone, then gives the board back as found.

    `plugin` names a module of this host that has runtimes beside the agent's own (see `worker`).
    """
    os.umask(0o077)
    home = os.path.expanduser("~")
    out = os.dup(1)
    os.dup2(2, 1)  # nothing but the outbox may write to the host
    sys.stdout = sys.stderr
    children = Children()
    board = Board(root, path, home, children)
    store = Store(os.path.join(home, ".hil"))
    lease = Lease(root, board.boot_id)
    words = ["worker", "--root", root] + ([] if plugin is None else ["--plugin", plugin])
    runner = Runner(board, store, own_argv(words))
    methods = Methods(board, store, lease, Clocks(board, store), runner)
    outbox = Outbox(out)
    agent = server.Server(0, outbox, methods.call, lease)
    agent.handle_signals()

    def last_will():
        children.kill_all()
        os._exit(1)

    try:
        agent.serve(last_will)
    finally:
        children.kill_all()
        _leave(methods)
        outbox.close(2.0)
        agent.finished.set()
    return 0


def _leave(methods):
    try:
        methods.leave()
    except (AgentError, OSError) as error:
        sys.stderr.write("hil agent: could not give the board back: %s\n" % error)
