"""The house rules that ruff, pyright and import-linter do not know."""

import ast
import importlib
import io
import pkgutil
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path
from types import ModuleType

import jax
import pytest
from packaging.requirements import Requirement

from vtune.versions import BROKEN, refuse_broken_jax

ROOT = Path(__file__).parent.parent
MODULES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "vtune").rglob("*.py")
}
PACKAGES = sorted(path for path in MODULES if path.endswith("/__init__.py"))

MAX_CODE_LINES = 300

EXCEPTIONS: dict[str, str] = {}
"""Modules that may be longer, each with the reason in one sentence; functions give theirs beside ``noqa: PLR0915``."""

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def code_lines(source: str) -> int:
    """Counts the lines that hold code: no blank lines, comments or docstrings."""
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def public_names(source: str) -> set[str]:
    """Names without a leading underscore that a module binds at its top level."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update((alias.asname or alias.name).split(".")[0] for alias in aliases)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("_")}


def import_package(path: str) -> ModuleType:
    return importlib.import_module(path.removesuffix("/__init__.py").replace("/", "."))


def test_code_lines_counts_code_alone():
    source = '"""Title.\n\nMore."""\n\n# why\nx = 1  # here\n"""What x is."""\ny = """two\nlines"""\n'
    assert code_lines(source) == 3


def test_every_module_is_short_or_has_its_reason():
    long = {path: lines for path, source in MODULES.items() if (lines := code_lines(source)) > MAX_CODE_LINES}
    assert long.keys() == EXCEPTIONS.keys(), f"over {MAX_CODE_LINES} code lines: {long}; excepted: {EXCEPTIONS}"
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize("path", PACKAGES)
def test_all_names_every_public_name(path):
    # In which order they stand is ruff's RUF022.
    package = import_package(path)
    names = getattr(package, "__all__", [])
    assert len(names) == len(set(names))
    assert set(names) == public_names(MODULES[path])
    assert [name for name in names if not hasattr(package, name)] == []


@pytest.mark.parametrize("path", PACKAGES)
def test_no_module_bears_the_name_of_a_public_function_beside_it(path):
    # Otherwise `vtune.search` is the function or the module, depending on what was imported last.
    package = import_package(path)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert {name for name in modules & public_names(MODULES[path]) if callable(getattr(package, name))} == set()


@pytest.mark.parametrize(
    ("version", "is_allowed"),
    [("0.7.1", False), ("0.7.2", True), ("0.10.2", False), ("0.11.0", False), (jax.__version__, True), ("99.0", True)],
)
def test_pyproject_excludes_the_broken_versions_of_jax_and_no_others(version, is_allowed):
    # No upper bound: replacing the jax of a notebook server breaks its GPU.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (jax_requirement,) = [r for r in map(Requirement, project["dependencies"]) if r.name == "jax"]
    assert jax_requirement.specifier.contains(version) == is_allowed


def test_what_depends_on_the_kind_of_a_device_stands_in_one_file():
    words = re.compile(r"\.platform\b|['\"](cpu|gpu|tpu|cuda|rocm)['\"]")
    allowed = {"vtune/training/devices.py"}
    assert {path for path, source in MODULES.items() if words.search(source)} <= allowed


def test_the_guard_refuses_what_pyproject_excludes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (jax_requirement,) = [r for r in map(Requirement, project["dependencies"]) if r.name == "jax"]
    excluded = {clause.version for clause in jax_requirement.specifier if clause.operator == "!="}
    assert excluded == set(BROKEN)
    for version in excluded:
        with pytest.raises(ImportError, match=rf"^jax {version} cannot be trusted .* \(jax#\d+\)\. Use another"):
            refuse_broken_jax(version)
    refuse_broken_jax(jax.__version__)


def test_a_broken_jax_is_refused_by_the_import():
    code = f"import jax; jax.__version__ = {next(iter(BROKEN))!r}; import vtune"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: jax 0.10.2 cannot be trusted" in done.stderr
