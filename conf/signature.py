"""The signature of a class or function, read from its source.

A mistake in a command is answered at once: importing PyTorch to look at a signature takes seconds.
"""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from inspect import Parameter, Signature
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

# Classes whose instances are of other classes: what is one of them cannot be told from the name.
STRUCTURAL = {"Protocol", "TypedDict"}


class Found(NamedTuple):
    """What a name of the source of `module` stands for: a definition, an expression, None where it is the module."""

    node: ast.AST | None
    module: str


def signature(target: str) -> Signature:
    """The parameters of the class or function `target` (`package.module.name`), without self.

    Annotations are types, `Any` where the source does not tell. What has no source to read (compiled, or made
    at run time) is imported. Raises ValueError where there is no such target.
    """
    top, *names = target.split(".")
    found = _follow(Found(None, top), names)
    try:
        if found and isinstance(found.node, ast.FunctionDef):
            return Signature(list(_parameters(found)))
        if found and isinstance(found.node, ast.ClassDef):
            init = _initialiser(found)
            return Signature(list(_parameters(init))[1:] if init else [])
    except LookupError:
        pass
    return _imported(target)


def _imported(target: str) -> Signature:
    try:
        parameters = inspect.signature(resolve_name(target)).parameters.values()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"{target}: {error}") from None
    known = [p if isinstance(p.annotation, type) else p.replace(annotation=Any) for p in parameters]
    return Signature([p.replace(annotation=Any) if p.annotation is Parameter.empty else p for p in known])


def _parameters(found: Found) -> Iterator[Parameter]:
    assert isinstance(found.node, ast.FunctionDef)
    arguments, hint = found.node.args, _Scope(found.module).hint
    plain = [*arguments.posonlyargs, *arguments.args]
    num_required = len(plain) - len(arguments.defaults)
    for index, argument in enumerate(plain):
        default = Parameter.empty if index < num_required else None
        yield Parameter(argument.arg, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=hint(argument))
    if arguments.vararg:
        yield Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL, annotation=Any)
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        default = Parameter.empty if value is None else None
        yield Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=default, annotation=hint(argument))
    if arguments.kwarg:
        yield Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD, annotation=Any)


def _initialiser(found: Found) -> Found | None:
    """`__init__` of a class or of its first base that has one, None if none has; LookupError if it cannot be read."""
    node = found.node
    if not isinstance(node, ast.ClassDef) or any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        raise LookupError(found.module)
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return Found(statement, found.module)
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        above = _follow(Found(None, found.module), ast.unparse(base).split("."))
        if above and isinstance(above.node, ast.ClassDef):
            if init := _initialiser(above):
                return init
        elif (value := _Scope(found.module).value(base)) is Any or value.__init__ is not object.__init__:
            raise LookupError(found.module)
    return None


def _follow(found: Found | None, names: list[str]) -> Found | None:
    """`found.a.b`, by reading."""
    for name in names:
        if found is None or found.node is not None:
            return None
        found = _find(name, found.module)
    return found


@cache
def _find(name: str, module: str) -> Found | None:
    """What `name` stands for in `module`, through imports."""
    if _is_cheap(module):
        return Found(ast.Name(name), module)
    tree = _tree(module)
    for statement in _statements(tree.body if tree else []):
        match statement:
            case ast.ClassDef(name=defined) | ast.FunctionDef(name=defined) if defined == name:
                if not any("overload" in ast.unparse(each) for each in statement.decorator_list):
                    return Found(statement, module)
            case ast.Assign(targets=[ast.Name(id=defined)], value=value) if defined == name:
                return Found(value, module)
            case ast.AnnAssign(target=ast.Name(id=defined), value=ast.expr() as value) if defined == name:
                return Found(value, module)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found = next((found for alias in aliases if (found := _through(alias, statement, name, module))), None)
                if found:
                    return found
    submodule = f"{module}.{name}"
    return Found(None, submodule) if _spec(submodule) else None


def _through(alias: ast.alias, statement: ast.Import | ast.ImportFrom, name: str, module: str) -> Found | None:
    """What `name` stands for if this import brings it into `module`."""
    if isinstance(statement, ast.Import):
        bound, source = (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        return Found(None, source) if bound == name else None
    source = _absolute(statement, module)
    if source == module:  # a package imports its own part
        return None
    if alias.name == "*":
        return _find(name, source)
    return _find(alias.name, source) if (alias.asname or alias.name) == name else None


def _is_cheap(module: str) -> bool:
    """Whether to import `module` costs nothing."""
    return module.partition(".")[0] in sys.stdlib_module_names | {"typing_extensions"}


def _absolute(statement: ast.ImportFrom, module: str) -> str:
    if not statement.level:
        return statement.module or ""
    spec = _spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    package = module.split(".")[: None if is_package else -1]
    package = package[: len(package) - statement.level + 1]
    return ".".join([*package, *([statement.module] if statement.module else [])])


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Those of a module, also under `if` and `try`."""
    for statement in body:
        yield statement
        for part in ("body", "handlers", "orelse") if isinstance(statement, ast.If | ast.Try) else ():
            yield from _statements(getattr(statement, part, []))


@cache
def _tree(module: str) -> ast.Module | None:
    spec = _spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_bytes())


@cache
def _spec(module: str) -> ModuleSpec | None:
    """Where `module` is, without importing its package."""
    package = module.rpartition(".")[0]
    if not package:
        return find_spec(module) if module else None
    parent = _spec(package)
    folders = parent.submodule_search_locations if parent else None
    return PathFinder.find_spec(module, folders) if folders else None


class _Scope(dict[str, Any]):
    """What the names of a module's annotations stand for: types, `Any` for what reading does not tell."""

    def __init__(self, module: str) -> None:
        self.module = module

    def hint(self, argument: ast.arg) -> Any:
        return self.value(argument.annotation) if argument.annotation else Any

    def value(self, expression: ast.AST) -> Any:
        try:
            value = eval(ast.unparse(expression), {}, self)
            return self.value(ast.parse(value, mode="eval").body) if isinstance(value, str) else value
        except Exception:  # whatever a library writes there, it is only less checked
            return Any

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            raise KeyError(name)
        return _meaning(_find(name, self.module))


class _Module:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return _meaning(_find(name, self._name))


def _meaning(found: Found | None) -> Any:
    """A type for `found`: the class itself where that is cheap, else an empty one of its name."""
    if found is None or isinstance(found.node, ast.FunctionDef):
        return Any
    if found.node is None:
        return _Module(found.module)
    if _is_cheap(found.module):
        return getattr(import_module(found.module), ast.unparse(found.node), Any)
    if isinstance(found.node, ast.ClassDef):
        structural = any(ast.unparse(base).split(".")[-1].split("[")[0] in STRUCTURAL for base in found.node.bases)
        return Any if structural else type(found.node.name, (), {"__module__": found.module})
    return _Scope(found.module).value(found.node)
