"""Which of the board's libraries can be imported, and under which environment.

numpy 1.19.5 on some ARM boards dies of an illegal instruction: its OpenBLAS misreads the core.
An import is tried in a child, so that it costs no more than that child; what is found out is told
to the host, and every later worker starts in the environment that was found to work.
"""

import glob
import os
import re
import sys

from . import procs

# assumes: numpy-needs-coretype
CORETYPE = "OPENBLAS_CORETYPE"
ARMV8 = "ARMV8"
WITHOUT = "HIL_WITHOUT_LIBRARIES"
"""Names a worker's libraries that must not be imported there, separated by commas."""
NAMES = ("numpy", "pycuda", "tensorrt", "onnxruntime")
_IMPORT = (
    "import importlib, os, sys\n"
    "for name in filter(None, os.environ.get(%r, '').split(',')): sys.modules[name] = None\n"
    "importlib.import_module(sys.argv[1])" % WITHOUT
)
_PYTHON = re.compile(r"python3(\.\d+)?\Z")
_LIMIT_S = 120.0


class Libraries:
    """What was found out, and the environment that follows from it.

    `deaths` holds {library: {"plain": status, "coretype": status}} of those that end Python by a
    signal (a negative status); 0 is a library that can be imported, 1 one that is not there.
    """

    def __init__(self, children):
        self._children = children
        self.deaths = {}

    def examine(self):
        """Tries each library by itself; call it where importing them has killed a worker.

        numpy comes first: others import it, and are tried as numpy has been found to work.

        Returns:
            True where one of them was the reason.
        """
        for name in NAMES:
            plain = self._try(name, {})
            if plain is None or plain >= 0:
                continue
            self.deaths[name] = {"plain": plain, "coretype": self._try(name, {CORETYPE: ARMV8})}
        return bool(self.deaths)

    def environment(self):
        """The environment of workers."""
        env = dict(os.environ)
        if self.deaths:
            env[CORETYPE] = ARMV8
        dead = sorted(name for name, seen in self.deaths.items() if seen["coretype"] != 0)
        if dead:
            env[WITHOUT] = ",".join(dead)
        return env

    def elsewhere(self, name, root):
        """Path of another Python of the board that can import a library; None where none can."""
        found = glob.glob(os.path.join(root, "usr/bin/python3*"))
        for path in sorted(set(found) - {sys.executable}):
            if not _PYTHON.match(os.path.basename(path)) or not os.access(path, os.X_OK):
                continue
            argv = [path, "-c", _IMPORT, name]
            if procs.run(self._children, argv, _LIMIT_S).status == 0:
                return path
        return None

    def _try(self, name, more):
        argv = [sys.executable, "-c", _IMPORT, name]
        env = dict(self.environment(), **more)
        return procs.run(self._children, argv, _LIMIT_S, env=env).status


def leave_out():
    """In a worker: makes importing what is named in the environment an `ImportError`."""
    for name in filter(None, os.environ.get(WITHOUT, "").split(",")):
        sys.modules[name] = None
