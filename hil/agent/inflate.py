"""Uploads that travel compressed: networks of random weights shrink a thousandfold."""

import os
import zlib

from . import blobs, checks
from .errors import AgentError

MOST_BYTES = 2 << 30
_CHUNK = 1 << 20


def unpack(store, name, size):
    """Turns an upload into what it was compressed from; returns the name of that upload.

    Args:
        store: the state folder.
        name: of the upload; it is removed either way.
        size: how many bytes must come out, so that nothing can grow beyond what was announced.

    Raises:
        AgentError: `bad_request` where there is no such upload, `checksum` where it does not
            unpack to that size.
    """
    source = store.path("incoming", checks.file_name(name))
    target = store.fresh()
    try:
        with open(source, "rb") as packed, open(target, "wb") as plain:
            written = _stream(packed, plain, size)
    except FileNotFoundError:
        raise checks.bad("there is no upload named %s" % name)
    except zlib.error as error:
        blobs.remove(target)
        raise _damaged(name, str(error))
    finally:
        blobs.remove(source)
    if written != size:
        blobs.remove(target)
        raise _damaged(name, "%d bytes came out, %d were announced" % (written, size))
    return os.path.basename(target)


def _stream(packed, plain, size):
    unpacker = zlib.decompressobj()
    written = 0
    data = packed.read(_CHUNK)
    while data and written <= size:
        out = unpacker.decompress(data, _CHUNK)
        plain.write(out)
        written += len(out)
        data = unpacker.unconsumed_tail or packed.read(_CHUNK)
    return written


def _damaged(name, why):
    return AgentError(
        "checksum",
        "the upload %s does not unpack" % name,
        why,
        "send it again; check the link and the board's disk",
    )
