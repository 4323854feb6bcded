"""Shapes of inputs that a network leaves open: the profiles that are built, and the one that runs.

A range is {input: (smallest, best, largest)}, each a list of sizes; each profile has one.
"""

from .errors import AgentError


def ranges(tensors, shapes, profiles):
    """The range of every optimisation profile to build; empty where no input changes.

    Without profiles there is one of exactly the shape asked for, so that the plan is the best
    that TensorRT can do for what is measured.

    Args:
        tensors: [(name, sizes)] of the network's inputs, -1 where a size is open.
        shapes: of inputs, as they will be run.
        profiles: ranges that were asked for; inputs they leave out have the shape of `shapes`.

    Raises:
        AgentError: `unknown_shape`.
    """
    sizes = dict(tensors)
    changing = [name for name, dims in tensors if -1 in dims]
    _known(sizes, set(shapes).union(*profiles))
    for name, dims in sorted(shapes.items()):
        _fits(name, sizes[name], dims)
    made = []
    for asked in profiles or [{}]:
        whole = {name: [list(shapes[name])] * 3 for name in changing if name in shapes}
        whole.update({name: each for name, each in asked.items() if name in changing})
        _complete(whole, sizes, changing)
        for name, each in sorted(asked.items()):
            _grows(name, sizes[name], each)
        made.append(whole)
    if not changing:
        return []
    wanted = {name: dims for name, dims in shapes.items() if name in changing}
    choose(made, wanted)
    return made


def choose(made, shapes):
    """Number of the profile that shapes are run in: made for them best, or the first that fits.

    Args:
        made: ranges of an engine's profiles.
        shapes: of changing inputs; those not named are run at a profile's best.

    Raises:
        AgentError: `unknown_shape` where no profile holds the shapes.
    """
    fitting = [index for index, each in enumerate(made) if _holds(each, shapes)]
    if not fitting:
        raise AgentError(
            "unknown_shape",
            "no optimisation profile holds the shape %s" % _shown(shapes),
            "; ".join("%d: %s" % (index, _range(each)) for index, each in enumerate(made)),
            "ask for a shape within one of them, or build one more profile",
        )
    best = [
        index
        for index in fitting
        if all(list(made[index][name][1]) == list(dims) for name, dims in shapes.items())
    ]
    return (best or fitting)[0]


def _holds(each, shapes):
    return all(
        name in each
        and len(dims) == len(each[name][0])
        and all(a <= b <= c for a, b, c in zip(each[name][0], dims, each[name][2]))
        for name, dims in shapes.items()
    )


def _known(sizes, names):
    strangers = sorted(names - set(sizes))
    if strangers:
        raise AgentError("unknown_shape", "the network has no input %s" % ", ".join(strangers))


def _complete(whole, sizes, changing):
    missing = [name for name in changing if name not in whole]
    if missing:
        raise AgentError(
            "unknown_shape",
            "the shape of input(s) %s is not fixed in the network" % ", ".join(missing),
            "; ".join("%s is %s" % (name, list(sizes[name])) for name in missing),
            "give it: " + " ".join("--shape %s=1x3x224x224" % name for name in missing),
        )


def _grows(name, have, each):
    for dims in each:
        _fits(name, have, dims)
    if not all(a <= b <= c for a, b, c in zip(*each)):
        raise AgentError(
            "unknown_shape",
            "the sizes of %s must grow from smallest over best to largest" % name,
            _range({name: each}),
        )


def _fits(name, have, want):
    same = len(have) == len(want) and all(h in (-1, w) for h, w in zip(have, want))
    if not same:
        raise AgentError(
            "unknown_shape",
            "input %s is %s in the network, %s was asked" % (name, list(have), list(want)),
        )


def _shown(shapes):
    return ", ".join("%s=%s" % (name, _by(dims)) for name, dims in sorted(shapes.items()))


def _range(each):
    return ", ".join(
        "%s=%s" % (name, ":".join(map(_by, three))) for name, three in sorted(each.items())
    )


def _by(dims):
    return "x".join(str(size) for size in dims)
