"""How this same program is started again: from the zipapp, or from a plain checkout."""

import json
import os
import sys

from .errors import from_dict


def own_argv(words):
    """Command line that runs `main` with these words in a process of its own."""
    package = os.path.dirname(os.path.abspath(__file__))
    program = os.path.dirname(package)
    if os.path.isfile(program):
        return [sys.executable, "-u", program] + words
    code = "import sys; sys.path.insert(0, %r); from %s import main; sys.exit(main.main(%r))"
    return [sys.executable, "-u", "-c", code % (program, os.path.basename(package), words)]


def last_words(text):
    """The error that such a process left as its last words; None where it left something else."""
    for line in reversed(text.strip().splitlines()):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and "code" in data:
            return from_dict(data)
    return None
