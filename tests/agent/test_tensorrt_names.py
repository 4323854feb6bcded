"""Every TensorRT name the agent uses exists in the releases that it is used on."""

import ast
import json
from pathlib import Path

import pytest

import hil.agent
import hil.emulator

FOLDER = Path(hil.agent.__file__).parent
LISTS = Path(__file__).parents[1] / "data/tensorrt_api"
OLDEST = Path(hil.emulator.__file__).parent / "data/api_tensorrt_source-8.2.1.json"
RELEASES = {
    "8.2.1": OLDEST,
    "8.5.3": LISTS / "api_tensorrt_source-8.5.3.json",
    **{
        version: LISTS / f"api_tensorrt_bindings-{version}.json"
        for version in ("8.6.1", "10.0.1", "10.3.0", "10.16.1.11", "11.4.0.106")
    },
}
NAMED = ("8.5.3", "8.6.1", "10.0.1", "10.3.0", "10.16.1.11")
SHARED = ("trt_dialect.py", "trt_build.py", "trt_refusals.py", "trt_engine.py")
USED_ON = {
    **dict.fromkeys(SHARED, tuple(RELEASES)),
    "trt_flagged.py": ("8.2.1", *NAMED),
    "trt_eight.py": ("8.2.1",),
    "trt_named.py": NAMED,
    "trt_typed.py": ("11.4.0.106",),
}
BORROWED = ("trt_named.py", ("Tensors", "set_workspace"))
"""What the dialect of 11 takes over from that of 8.5 to 10; a test holds that it is all."""

# What a variable of the agent holds, by its name; `self._x` reads as `x`.
HOLDS = {
    "trt": "module",
    "logger": "Logger",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "fresh": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "error": "ParserError",
    "tensor": "ITensor",
    "inspector": "EngineInspector",
}
RETURNS = {
    ("Builder", "create_network"): "INetworkDefinition",
    ("INetworkDefinition", "get_input"): "ITensor",
}
# The lists read from source hold classes; these are functions and attributes of the module.
OF_THE_MODULE = {"init_libnvinfer_plugins", "__version__"}
IN_THE_SOURCE = {"ITensor": "LayerType", "IHostMemory": "WeightsRole"}
# Names that TensorRT's classes and the agent's own share; only these may be used unresolved.
OURS_AS_WELL = {"trt_engine.py": {"dtype", "shape"}}


class Api:
    """One release's names."""

    def __init__(self, version):
        self.version = version
        self._lists = json.loads(RELEASES[version].read_text(encoding="utf-8"))
        self.arguments = self._lists.get("_arguments")

    def members(self, kind):
        from_source = "module" not in self._lists
        if kind == "module":
            names = set(self._lists["module"]) if not from_source else set(self._lists)
            return names | OF_THE_MODULE
        names = set(self._lists.get(IN_THE_SOURCE.get(kind, kind) if from_source else kind, ()))
        if kind == "Logger" and from_source:
            names |= {"Severity", *self._lists["Severity"]}
        return names

    def takes(self, kind, name, positional, keywords):
        """Whether a call with so many arguments fits; None where the list has no signature."""
        key = name if kind == "module" else f"{kind}.{name}"
        overloads = (self.arguments or {}).get(key)
        if overloads is None:
            return None
        return any(
            sum(not word.endswith("=") for word in words) <= positional <= len(words)
            and not keywords
            for words in overloads
        )


class Walk(ast.NodeVisitor):
    """Collects uses: (class, name, number of arguments or None, keywords, line)."""

    def __init__(self):
        self.uses = []
        self.unresolved = []
        self._calls = {}

    def holds(self, node):
        """The class of what an expression gives; None where it is no TensorRT object."""
        if isinstance(node, ast.Name):
            return HOLDS.get(node.id)
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return HOLDS.get(node.attr.lstrip("_"))
            return node.attr if self.holds(node.value) == "module" else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = self.holds(node.func.value)
            return node.func.attr if owner == "module" else RETURNS.get((owner, node.func.attr))
        return None

    def visit_Call(self, node):
        words = [word.arg for word in node.keywords]
        name = ast.unparse(node.func)
        if isinstance(node.func, ast.Attribute):
            self._calls[node.func] = (len(node.args), words)
        if name == "functools.partial":
            self._calls[node.args[0]] = (len(node.args) - 1, words)
        if name in {"hasattr", "getattr"} and self.holds(node.args[0]) is not None:
            asked = node.args[1]
            assert isinstance(asked, ast.Constant), "a name that no list can be asked for"
            self._add(self.holds(node.args[0]), f"?{asked.value}", None, [], node)
        self.generic_visit(node)

    def visit_Attribute(self, node):
        count, words = self._calls.get(node, (None, []))
        self._add(self.holds(node.value), node.attr, count, words, node)
        self.generic_visit(node)

    def visit_ClassDef(self, node):
        for base in node.bases:
            kind = self.holds(base)
            for method in node.body if kind else ():
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    self._add(kind, method.name, len(method.args.args) - 1, [], method)
        self.generic_visit(node)

    def _add(self, kind, name, count, words, node):
        if kind is not None and not (name.startswith("__") and name != "__version__"):
            self.uses.append((kind, name, count, tuple(words), node.lineno))
        elif kind is None:
            self.unresolved.append((name, node.lineno))


def walk(text, only=None):
    tree = ast.parse(text)
    found = Walk()
    for node in tree.body:
        if only is None or getattr(node, "name", None) in only:
            found.visit(node)
    return found


def source(file):
    return (FOLDER / file).read_text(encoding="utf-8")


def complaints(found, version):
    """What a walk found that a release has not, or not with these arguments."""
    api, wrong = Api(version), []
    for kind, name, count, words, line in found.uses:
        if name.startswith("?"):
            continue
        if name not in api.members(kind):
            wrong.append(f"line {line}: {version} has no {kind}.{name}")
        elif words:
            wrong.append(f"line {line}: {kind}.{name} by keyword {', '.join(words)}")
        elif count is not None and api.takes(kind, name, count, words) is False:
            wrong.append(f"line {line}: {version}'s {kind}.{name} takes not {count} arguments")
    return wrong


@pytest.mark.parametrize(
    ("file", "version"), [(file, version) for file in USED_ON for version in USED_ON[file]]
)
def test_every_name_and_argument_exists_in_the_release(file, version):
    found = walk(source(file))

    assert complaints(found, version) == []
    assert found.uses


@pytest.mark.parametrize("file", ["trt_eight.py", "trt_flagged.py"])
def test_the_arguments_of_8_2_are_those_that_8_6_still_takes(file):
    # No list of 8.2.1's arguments is at hand; its names all live on in 8.6.1, whose list has them.
    assert complaints(walk(source(file)), "8.6.1") == []


def test_what_11_borrows_exists_there():
    file, names = BORROWED
    tree = ast.parse(source("trt_typed.py"))
    taken = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == file[: -len(".py")]
    }

    assert taken == set(names)
    found = walk(source(file), names)
    assert len(found.uses) > 8
    assert complaints(found, "11.4.0.106") == []


@pytest.mark.parametrize("file", sorted(USED_ON))
def test_no_name_of_tensorrt_is_used_on_something_unknown(file):
    kinds = set(HOLDS.values())
    known = {
        name
        for version in RELEASES
        for kind in kinds
        for name in Api(version).members(kind)
        if kind != "module" and not name.startswith("_")
    }
    strange = {name for name, _ in walk(source(file)).unresolved} & known

    assert strange == OURS_AS_WELL.get(file, set())


def test_only_these_files_touch_tensorrt():
    others = [path.name for path in FOLDER.glob("*.py") if path.name not in USED_ON]
    for name in others:
        text = source(name)
        assert "import tensorrt" not in text, name
        assert not {use[:2] for use in walk(text).uses if use[0] == "module"}, name


def test_features_are_asked_for_by_names_that_tell_the_dialects_apart():
    asked = [use for file in SHARED for use in walk(source(file)).uses if use[1].startswith("?")]

    assert [(kind, name) for kind, name, *_ in asked] == [
        ("ICudaEngine", "?num_io_tensors"),
        ("BuilderFlag", "?FP16"),
    ]
    for version in RELEASES:
        api = Api(version)
        has = (
            "num_io_tensors" in api.members("ICudaEngine"),
            "FP16" in api.members("BuilderFlag"),
        )
        dialect = "trt_eight" if not has[0] else "trt_named" if has[1] else "trt_typed"
        assert version in USED_ON[f"{dialect}.py"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("config.set_memory_pool_limit(1, 2)", "8.2.1 has no IBuilderConfig.set_memory_pool_limit"),
        ("self._engine.num_io_tensors", "8.2.1 has no ICudaEngine.num_io_tensors"),
        ("trt.BuilderFlag.FP8", "8.2.1 has no BuilderFlag.FP8"),
        ("trt.MemoryPoolType.WORKSPACE", "8.2.1 has no module.MemoryPoolType"),
        ("builder.create_network(flags=1)", "Builder.create_network by keyword flags"),
        ("class P(trt.IProfiler):\n def report(self, a): 0", "8.2.1 has no IProfiler.report"),
        (
            "functools.partial(context.execute_async_v3, 1)",
            "8.2.1 has no IExecutionContext.execute_async_v3",
        ),
    ],
)
def test_the_walk_finds_what_is_wrong(line, said):
    assert any(said in wrong for wrong in complaints(walk(line), "8.2.1"))


def test_the_walk_counts_arguments():
    (wrong,) = complaints(walk("context.execute_async_v3(1, 2)"), "10.3.0")

    assert "takes not 2" in wrong
    assert complaints(walk("context.execute_async_v3(1)"), "10.3.0") == []
