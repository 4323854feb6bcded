"""Reading request parameters: typed, bounded, and refused with the parameter's name."""

import math
import re

from .errors import AgentError

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}\Z")


def bad(message, fix=None):
    """The error for a request that makes no sense."""
    return AgentError("bad_request", message, None, fix)


def text(params, name, choices=None, empty=False):
    """A string, one of `choices` where given; not empty unless that is allowed."""
    value = params.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise bad("%s must be a non-empty string" % name)
    if choices is not None and value not in choices:
        raise bad("%s must be one of: %s" % (name, ", ".join(choices)))
    return value


def integer(params, name, low, high, default=None):
    """An integer within [low, high]; `default` where absent and given."""
    value = params.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise bad("%s must be an integer from %d to %d" % (name, low, high))
    return value


def number(params, name, low, high, default=None):
    """A finite number within [low, high] as float; `default` where absent and given."""
    value = params.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise bad("%s must be a number" % name)
    if not low <= value <= high:
        raise bad("%s must be from %g to %g" % (name, low, high))
    return float(value)


def flag(params, name, default):
    """True or false; `default` where absent."""
    value = params.get(name, default)
    if not isinstance(value, bool):
        raise bad("%s must be true or false" % name)
    return value


def sha256(value, name="sha256"):
    """A lower-case hexadecimal SHA-256: also the only form in which blobs are ever opened."""
    if not isinstance(value, str) or not _SHA256.match(value):
        raise bad("%s must be 64 lower-case hexadecimal digits" % name)
    return value


def file_name(value, name="name"):
    """A plain file name: no folder, no leading dot, nothing that leaves the folder it is for."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise bad("%s must be a plain file name of letters, digits, '.', '_' and '-'" % name)
    return value


def blobs_by_name(params, name):
    """A mapping {tensor name: sha256}; empty where absent."""
    value = params.get(name, {})
    if not isinstance(value, dict):
        raise bad("%s must be an object" % name)
    return {key: sha256(digest, "%s[%s]" % (name, key)) for key, digest in value.items()}


def ranges(params, name, most):
    """A list of {tensor name: [smallest, best, largest]}, each a shape; empty where absent."""
    value = params.get(name, [])
    if not isinstance(value, list) or len(value) > most:
        raise bad("%s must be a list of at most %d objects" % (name, most))
    for number, each in enumerate(value):
        if not isinstance(each, dict) or not each:
            raise bad("%s[%d] must be an object" % (name, number))
        for key, three in each.items():
            if not isinstance(three, list) or len(three) != 3:
                raise bad("%s[%d][%s] must be three shapes" % (name, number, key))
            for dims in three:
                shapes({key: {key: dims}}, key)
    return value


def shapes(params, name):
    """A mapping {tensor name: list of positive integers}; empty where absent."""
    value = params.get(name, {})
    if not isinstance(value, dict):
        raise bad("%s must be an object" % name)
    for key, dims in value.items():
        plain = isinstance(dims, list) and all(type(dim) is int and dim > 0 for dim in dims)
        if not plain:
            raise bad("%s[%s] must be a list of positive integers" % (name, key))
    return value
