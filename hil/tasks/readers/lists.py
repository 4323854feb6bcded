"""Text files that name pictures or classes, one a line."""

from __future__ import annotations

from pathlib import Path

from hil.core.errors import ConfigError


def lines(path: Path) -> list[str]:
    """The lines of a list, stripped, without empty ones.

    Raises:
        ConfigError: it cannot be read, or is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read", why=error.strerror) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a list", why="it is not UTF-8 text") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
