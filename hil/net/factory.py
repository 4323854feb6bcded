"""Finding a user's function by name, written `module:function` in profiles and commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hil.core.errors import ConfigError


def load_factory(reference: str) -> Callable[..., Any]:
    """Import the callable named by `reference`.

    The working folder is importable, so that a user's own file beside the profile is found.

    Args:
        reference: `package.module:function`; dots after the colon reach into classes.

    Raises:
        ConfigError: the reference is malformed, or names nothing that can be called.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise ConfigError(
            f"'{reference}' does not name a function",
            fix="write it as module:function, for example hil.net.prototypes:resnet20",
        )
    value: Any = _import(module_name, reference)
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ConfigError(
                f"'{reference}' was not found",
                why=f"module '{module_name}' has no '{attribute}'",
                fix=_suggest(value),
            )
        value = getattr(value, part)
    if not callable(value):
        raise ConfigError(
            f"'{reference}' cannot be called",
            why=f"it is a {type(value).__name__}",
            fix="name a function that returns the object",
        )
    result: Callable[..., Any] = value
    return result


def _import(module_name: str, reference: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"'{reference}' was not found",
            why=str(error),
            fix=f"run from the folder that holds {module_name.partition('.')[0]}, or install it",
        ) from error
    except (ImportError, SyntaxError, ValueError) as error:
        raise ConfigError(
            f"'{reference}' could not be imported",
            why=f"{type(error).__name__}: {error}",
            fix=f"make `python -c 'import {module_name}'` work first",
        ) from error


def _suggest(module: Any) -> str:
    public = [
        n for n in sorted(vars(module)) if not n.startswith("_") and callable(vars(module)[n])
    ]
    return f"it has {', '.join(public[:8])}" if public else "check the name"
