"""The architecture as a test: who imports whom, how long files and functions are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = {"train", "conf", "models", "data", "callbacks", "scripts"}
# Import direction: what each place may import of this project, by longest prefix.
MAY_IMPORT = {
    "conf": {"conf"},
    "models/layers": {"models.geometry"},
    "models/backbones": {"models.backbones", "models.layers", "models.geometry", "models.meta"},
    "models": {"models"},
    "data": {"data"},
    "callbacks": {"callbacks", "models", "conf.identity", "conf.run_directory"},
    "scripts": {"conf", "models", "data", "callbacks", "train", "scripts"},
    "train.py": {"conf", "models", "data.absent", "callbacks"},
}
FILES = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] in OWN | {"train.py", "tests"}]
SOURCES = [path for path in FILES if path.relative_to(ROOT).parts[0] != "tests"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> list[str]:
    """The dotted names of this project that `path` imports, also inside functions."""
    package = path.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return [module for module in found if module.split(".")[0] in OWN]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    place = max((prefix for prefix in MAY_IMPORT if name(path).startswith(prefix)), key=len)
    for module in imports(path):
        assert any(f"{module}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[place]), module


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_file_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text))


def test_train_is_a_table_of_contents() -> None:
    assert len((ROOT / "train.py").read_text().splitlines()) < 100
