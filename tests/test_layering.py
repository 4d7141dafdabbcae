"""Who may import whom, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("ingest", "recommender")
    for path in sorted((ROOT / package).rglob("*.py"))
}
# An outside package, and the modules (or packages, by a last dot) that may import it.
HOMES = {
    "pyarrow.parquet": ("ingest.store", "ingest.files"),
    "grpc": ("ingest.live",),
    "google.protobuf": ("ingest.live", "ingest.live_protocols", "ingest.protocols."),
    "upath": ("ingest.places",),
    "click": ("recommender.cli", "recommender.commands."),
    "kubernetes": ("recommender.cluster",),
    "sklearn": ("recommender.patterns",),
    "ibis": (
        "recommender.edges",
        "recommender.engines",
        "recommender.days",
        "recommender.warehouse",
        "recommender.watch",
    ),
    "duckdb": ("recommender.engines",),
    "pyspark": ("ingest.spark", "ingest.executors", "ingest.hadoop"),
    "py4j": ("ingest.spark",),
    "ruamel": ("recommender.report.",),
    "rich": ("recommender.commands.", "recommender.report."),
    "yaml": ("recommender.manifests", "recommender.diff", "recommender.enforce"),
}
INGEST_FACE = {"ingest.schema", "ingest.store", "ingest.errors", "ingest.locks", "ingest.spark"}
# Modules that know no dialect, no I/O and no table.
PURE = {"recommender.model", "recommender.addresses", "recommender.selectors"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, homes: tuple[str, ...]) -> bool:
    return any(name == home or (home.endswith(".") and name.startswith(home)) for home in homes)


def is_command(name: str) -> bool:
    return name == "recommender.cli" or name.startswith("recommender.commands")


@pytest.mark.parametrize("name", MODULES)
def test_imports_keep_the_layers(name: str) -> None:
    found = imports(MODULES[name])
    for package, homes in HOMES.items():
        used = any(one == package or one.startswith(f"{package}.") for one in found)
        assert not used or within(name, homes), f"{name} may not import {package}"
    if name.startswith("ingest"):
        assert not any(one.startswith("recommender") for one in found)
    elif not is_command(name):
        taken = {one for one in found if one.startswith("ingest.") and one in MODULES}
        assert taken <= INGEST_FACE, f"{name} takes {taken - INGEST_FACE} from ingest"
        assert not any(is_command(one) for one in found), f"{name} imports a command"
    if name in PURE:
        assert not any(one.split(".")[0] in ("pandas", "pyarrow", "pathlib") for one in found)
        assert not any(one.startswith("recommender.dialects") for one in found)


def test_the_model_knows_nothing_but_itself() -> None:
    found = imports(MODULES["recommender.model"])
    own = {one for one in found if one.startswith(("ingest", "recommender."))}
    assert all(one.startswith("recommender.ports") for one in own), own


@pytest.mark.parametrize("name", [n for n in MODULES if not is_command(n)])
def test_only_commands_print_read_the_environment_or_exit(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit"), f"{name}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = f"{node.value.id}.{node.attr}"
            assert used not in ("os.environ", "os.getenv", "sys.exit"), f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_named_and_sized_to_be_read(name: str) -> None:
    text = MODULES[name].read_text()
    assert name.rsplit(".", maxsplit=1)[-1] not in ("utils", "helpers", "common", "misc", "base")
    assert text.count("\n") <= 400, f"{name}: what is the second thing in it?"
    assert ast.get_docstring(ast.parse(text)), f"{name}: one sentence on its job"


@pytest.mark.parametrize("name", MODULES)
def test_no_function_needs_scrolling(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{name}:{node.lineno} {node.name} has {length} lines"
