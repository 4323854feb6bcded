"""YAML files people write: strict, and wrong in one go with file, line and field for each mistake.

Rule of this file: it knows YAML and pydantic, and no particular file. It is the only door through
which either enters `core`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Tag, ValidationError
from pydantic_core import ErrorDetails

from hil.core.errors import ConfigError

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every file's model: no unknown key, no silent conversion, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


@dataclass(frozen=True)
class Problem:
    """One mistake in a file. `field` is the dotted path, "" for the file as a whole."""

    path: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: "
        return f"{where}{self.field}: {self.message}" if self.field else f"{where}{self.message}"


class YamlFileError(ConfigError):
    """Everything wrong with one file; `what` holds one line a problem, in the file's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.field)))
        count = len(self.problems)
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            fix="correct that line" if count == 1 else f"correct these {count} lines",
        )


@dataclass(frozen=True)
class Document:
    """A parsed file: plain data, and the 1-based line each location starts on."""

    path: Path
    data: Any
    lines: Mapping[Location, int]

    def line_of(self, location: Location) -> int:
        """Return the line of the location, or of the nearest thing around it that exists."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def load_yaml_model(path: Path, model: type[M], folder: Path | None = None) -> M:
    """Read a file into a model.

    Args:
        path: of the file.
        model: of its content.
        folder: the validation context's `folder`, which paths in the file may be relative to; None
            is that of the file. A copy's is the folder of its original.

    Raises:
        YamlFileError: everything that is wrong with the file.
        ConfigError: the file cannot be read.
    """
    return validate(read_document(path), model, folder)


def load_yaml_variant(path: Path, discriminator: str, models: Mapping[str, type[M]]) -> M:
    """Read a file whose model depends on one of its top-level fields.

    Raises:
        YamlFileError: everything that is wrong; a bad discriminator hides the rest.
        ConfigError: the file cannot be read.
    """
    document = read_document(path)
    if not isinstance(document.data, dict):
        return validate(document, next(iter(models.values())))
    chosen = document.data.get(discriminator)
    if isinstance(chosen, str) and chosen in models:
        return validate(document, models[chosen])
    got = "required" if discriminator not in document.data else f"got {chosen!r}"
    message = f"{got}; expected one of {', '.join(models)}"
    line = document.line_of((discriminator,))
    raise YamlFileError((Problem(path, line, discriminator, message),))


def validate(document: Document, model: type[M], folder: Path | None = None) -> M:
    """Turn a parsed file into its model (see `load_yaml_model`).

    Raises:
        YamlFileError: every field that is wrong.
    """
    context = {"folder": folder or document.path.parent}
    try:
        return model.model_validate(document.data, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = tuple(_problem(document, model, detail) for detail in details)
        raise YamlFileError(problems) from error


def read_document(path: Path) -> Document:
    """Parse a file, remembering lines.

    Raises:
        YamlFileError: malformed YAML, or keys given twice.
        ConfigError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read", why=error.strerror, fix="check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {error.start})"
        raise YamlFileError((Problem(path, 1, "", message),)) from error
    return parse_document(path, text)


def parse_document(path: Path, text: str) -> Document:
    """Parse the text of a file (see `read_document`)."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise YamlFileError((Problem(path, 1, "", "the file is empty"),))
        lines: dict[Location, int] = {}
        wrong = tuple(_index(_Walk(path, loader, lines), node, (), ()))
        if wrong:
            raise YamlFileError(wrong)
        return Document(path, loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        raise YamlFileError((_syntax_problem(path, error),)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlFileError((Problem(path, line, "", error.reason),)) from error
    except RecursionError as error:
        message = "nested too deeply, or refers to itself"
        raise YamlFileError((Problem(path, 1, "", message),)) from error


@dataclass(frozen=True)
class _Walk:
    path: Path
    loader: yaml.SafeLoader
    lines: dict[Location, int]


def _index(
    walk: _Walk, node: yaml.Node, location: Location, above: tuple[int, ...]
) -> Iterator[Problem]:
    """Note lines by location; yield keys given twice and values YAML cannot make."""
    if id(node) in above:
        raise RecursionError
    above = (*above, id(node))
    walk.lines.setdefault(location, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _index(walk, child, (*location, index), above)
    elif isinstance(node, yaml.MappingNode):
        yield from _index_mapping(walk, node, location, above)
    else:
        yield from _unmakable(walk, node, location)


def _index_mapping(
    walk: _Walk, node: yaml.MappingNode, location: Location, above: tuple[int, ...]
) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for key, child in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "(complex key)"
        here, line = (*location, name), key.start_mark.line + 1
        if name in seen and key.tag != "tag:yaml.org,2002:merge":
            message = f"given twice, first on line {seen[name]}"
            yield Problem(walk.path, line, dotted(here), message)
            continue
        seen[name] = line
        walk.lines[here] = line
        yield from _index(walk, child, here, above)


def _unmakable(walk: _Walk, node: yaml.Node, location: Location) -> Iterator[Problem]:
    try:
        walk.loader.construct_object(node, deep=True)
    except (ValueError, yaml.constructor.ConstructorError) as error:
        reason = getattr(error, "problem", None) or str(error)
        yield Problem(walk.path, node.start_mark.line + 1, dotted(location), reason)


def _syntax_problem(path: Path, error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = " ".join(part for part in (error.context, error.problem) if part)
    return Problem(path, mark.line + 1 if mark else 1, "", f"not YAML: {message}")


def dotted(location: Location) -> str:
    """Return a location as people write it, e.g. `search.depth[2]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _problem(document: Document, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    location = _without_tags(document.data, detail["loc"], detail["type"])
    line = document.line_of(location)
    return Problem(document.path, line, dotted(location), _message(model, location, detail))


def _without_tags(data: Any, location: Location, kind: str) -> Location:
    """Drop the names of union members that pydantic puts between real fields."""
    kept: list[str | int] = []
    for position, part in enumerate(location):
        missing = kind == "missing" and position == len(location) - 1
        inside = _child(data, part)
        if inside is None and not missing:
            continue
        kept.append(part)
        data = inside[0] if inside else None
    return tuple(kept)


def _child(data: Any, part: str | int) -> tuple[Any] | None:
    if isinstance(data, dict):
        match = [value for key, value in data.items() if str(key) == str(part)]
        return (match[0],) if match else None
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return (data[part],)
    return None


_EXPECTED = {
    "string_type": "expected text",
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "dict_type": "expected fields (name: value)",
    "model_type": "expected fields (name: value)",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
}


def _message(model: type[BaseModel], location: Location, detail: ErrorDetails) -> str:
    kind, got = detail["type"], _short(detail["input"])
    if kind == "missing":
        return "required, and not given"
    if kind in ("extra_forbidden", "invalid_key"):
        tags = {str(part) for part in detail["loc"]}
        return _unknown_field(_model_at(model, location[:-1], tags), str(location[-1]))
    if kind == "literal_error":
        return f"expected {detail['ctx']['expected']}, got {got}"
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, got {got}"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    plain = detail["msg"].removeprefix("Input should be ")
    return f"expected {plain}, got {got}" if plain != detail["msg"] else f"{plain}, got {got}"


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown_field(model: type[BaseModel] | None, name: str) -> str:
    if model is None:
        return "unknown field"
    known = [field.alias or key for key, field in model.model_fields.items()]
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown field; {hint}known here: {', '.join(known)}"


def _model_at(
    model: type[BaseModel], location: Location, tags: Collection[str]
) -> type[BaseModel] | None:
    """The model of a location; of a tagged union, the member whose tag pydantic named."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            return None
        fields = {field.alias or key: field for key, field in current.model_fields.items()}
        found = fields.get(str(part))
        current = _inner_model(found.annotation, tags) if found else None
    return current


def _inner_model(annotation: Any, tags: Collection[str]) -> type[BaseModel] | None:
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        tagged = [mark.tag for mark in marks if isinstance(mark, Tag)]
        return None if tagged and tagged[0] not in tags else _inner_model(inner, tags)
    if get_origin(annotation) in (Union, UnionType):
        models = [m for arg in get_args(annotation) if (m := _inner_model(arg, tags))]
        return models[0] if len(models) == 1 else None
    return (
        annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    )
