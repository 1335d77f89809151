"""The architecture as a test: who imports whom, and how long files and functions are."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("conf", "models", "data", "callbacks", "scripts", "sweeps", "hydra_plugins")
# What each place may import of this project. The longest prefix of a file's name decides; a folder names itself
# where its files may import each other.
MAY_IMPORT = {
    "train.py": {"conf", "models", "callbacks", "data.absent", "sweeps"},
    "conf": {"conf", "models.run_directory"},
    "sweeps": {"sweeps", "conf", "models", "callbacks.pruning"},
    "hydra_plugins": {"sweeps"},
    "data": {"data"},
    "data/prepared.py": {"data", "models.preprocessing"},
    "callbacks": {
        "callbacks",
        "models",
        "conf.identity",
        "conf.processes",
        "conf.stop",
        "sweeps.short_names",
        "sweeps.table",
    },
    "scripts": {
        "scripts.benchmarks",
        "scripts.evaluations",
        "scripts.exports",
        "scripts.predictions",
        "scripts.published",
        "scripts.reports",
        "conf",
        "models",
        "data",
        "callbacks",
        "sweeps",
        "train",
    },
    "scripts/benchmarks": {
        "scripts.benchmarks",
        "scripts.published",
        "conf",
        "models",
        "data",
        "callbacks",
        "sweeps",
        "train",
    },
    "scripts/reports": {
        "scripts.reports",
        "conf.identity",
        "models.columns",
        "models.run_directory",
        "callbacks.record",
        "sweeps",
    },
    "scripts/evaluations": {"models"},
    "scripts/exports": {"scripts.exports", "models"},
    "scripts/predictions": {"conf.schema", "models", "callbacks"},
    "scripts/published": {"scripts.published", "conf", "models"},
    # models/, from what knows nothing of it to what stands on the rest.
    "models/__init__.py": set(),
    "models/columns.py": set(),
    "models/geometry.py": set(),
    "models/run_directory.py": set(),
    "models/macs.py": set(),
    "models/meta.py": set(),
    "models/watch.py": set(),
    "models/memory_format.py": set(),
    "models/errors.py": set(),
    "models/init.py": set(),
    "models/scope.py": {"models.geometry"},
    "models/approximation.py": {"models.geometry"},
    "models/layers": {"models.layers", "models.approximation", "models.geometry", "models.kernels"},
    "models/backbones": {
        "models.backbones",
        "models.errors",
        "models.layers",
        "models.geometry",
        "models.meta",
        "models.watch",
    },
    "models/cost.py": {"models.macs", "models.meta", "models.watch"},
    "models/rebuild.py": {
        "models.cost",
        "models.geometry",
        "models.layers",
        "models.macs",
        "models.meta",
        "models.scope",
        "models.watch",
    },
    "models/gate_maps.py": {"models.layers", "models.watch"},
    "models/budget.py": {"models.cost", "models.rebuild", "models.scope"},
    "models/time_budget.py": {"models.budget", "models.inference", "models.rebuild", "models.scope"},
    "models/build.py": {"models.budget", "models.cost", "models.init", "models.rebuild", "models.time_budget"},
    "models/convert.py": {"models.approximation", "models.watch"},
    "models/preprocessing.py": set(),
    "models/model_folder.py": {"models.memory_format", "models.run_directory"},
    "models/load.py": {
        "models.build",
        "models.errors",
        "models.model_folder",
        "models.preprocessing",
        "models.run_directory",
    },
    "models/teacher.py": {"models.errors", "models.load", "models.meta"},
    "models/presets.py": set(),
    "models/cut.py": set(),
    "models/timm_network.py": {"models.build", "models.cut", "models.meta", "models.watch"},
    "models/registry.py": {"models.build", "models.load", "models.presets", "models.timm_network"},
    "models/training": {"models.training", "models.layers", "models.meta", "models.run_directory", "models.watch"},
    "models/inference": {
        "models.inference",
        "models.columns",
        "models.errors",
        "models.training.penalty",
        "models.layers",
        "models.geometry",
        "models.kernels",
        "models.macs",
        "models.memory_format",
        "models.watch",
    },
    "models/kernels": {"models.kernels", "models.geometry", "models.macs"},
}
SOURCES = [ROOT / "train.py", *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))]
FILES = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    return name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module(path) for path in SOURCES}


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules of this project that `path` imports, also inside functions."""
    package = path.relative_to(ROOT).parent.parts
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else [])])
            names += [f"{start}.{alias.name}" for alias in node.names]
    return frozenset(found for dotted in names if (found := own_module(dotted)))


def own_module(dotted: str) -> str:
    """The module of this project that `dotted`, a module or a name in one, belongs to; "" where it is not ours."""
    while dotted and dotted not in MODULES:
        dotted = dotted.rpartition(".")[0]
    return dotted


def test_imports_point_one_way() -> None:
    def may(path: Path, imported: str) -> bool:
        place = max((prefix for prefix in MAY_IMPORT if name(path).startswith(prefix)), key=len)
        return any(f"{imported}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[place])

    wrong = [f"{name(path)} imports {found}" for path in SOURCES for found in imports(path) if not may(path, found)]
    assert not wrong


def test_no_imports_go_in_a_circle() -> None:
    try:
        TopologicalSorter({module(path): imports(path) - {module(path)} for path in SOURCES}).prepare()
    except CycleError as circle:
        pytest.fail(f"imports in a circle: {' <- '.join(circle.args[1])}")


def test_files_and_functions_are_short() -> None:
    assert not {path.stem for path in FILES} & {"utils", "helpers", "common", "misc"}
    assert not [name(path) for path in FILES if len(path.read_text().splitlines()) > 300]
    long = [
        f"{name(path)}: {node.name} has {lines} lines"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > 40
    ]
    assert not long


def test_every_file_says_what_it_is() -> None:
    texts = {name(path): path.read_text() for path in SOURCES}
    assert not [path for path, text in texts.items() if text and not ast.get_docstring(ast.parse(text))]


def test_train_is_a_table_of_contents() -> None:
    assert len((ROOT / "train.py").read_text().splitlines()) < 100
