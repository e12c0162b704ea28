"""pyproject.toml (ranges), constraints.txt (pins) and the commands of the README belong together."""

import ast
import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.tree import PACKAGES, ROOT, name_of, parsed, python_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN_LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINS = {canonicalize_name(name): version for name, version in (line.split("==") for line in PIN_LINES)}


# What each package may import: the base (None) and its own extra. The workbench starts both sides.
EXTRAS = {"coordinator": "coordinator", "shared": None, "site_agent": "site", "workbench": "workbench"}
# Where the import name is not the distribution's name.
IMPORT_NAMES = {"argon2-cffi": "argon2", "pillow": "pil", "pyyaml": "yaml", "scikit-learn": "sklearn"}
NOT_IMPORTED = {
    "httptools": "uvicorn imports it: the faster HTTP parser",
    "rich": "typer prints with it, also where the workbench does not",
}


def requirements(extra: str | None) -> list[Requirement]:
    """Return the requirements of the base (None) or of one extra, without the references between extras."""
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return [one for one in map(Requirement, listed) if one.name != "mitral"]


def test_every_pin_is_exact_and_free_of_local_builds() -> None:
    for line in PIN_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_every_requirement_is_pinned_within_its_range() -> None:
    for extra in (None, *PROJECT["optional-dependencies"]):
        for requirement in requirements(extra):
            assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_base_and_the_coordinator_need_no_torch() -> None:
    light = {requirement.name for extra in (None, "coordinator") for requirement in requirements(extra)}
    assert light.isdisjoint({"torch", "opacus", "monai"})
    assert PROJECT["optional-dependencies"]["coordinator"], "the extra exists"


def import_names(*extras: str | None) -> set[str]:
    """Return what the given extras let a package import."""
    names = {requirement.name for extra in extras for requirement in requirements(extra)}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def imported(package: str) -> dict[str, str]:
    """Return the third-party packages that one of ours imports, each with one file that does."""
    found: dict[str, str] = {}
    for path in python_files(package):
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            found |= {name.partition(".")[0].lower(): name_of(path) for name in names}
    return {name: file for name, file in found.items() if name not in {*sys.stdlib_module_names, *PACKAGES}}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_comes_with_its_extra(package: str) -> None:
    allowed = import_names(None, EXTRAS[package])
    # The tasks of shared are loaded by the site's training child and the workbench, whose extras bring torch.
    undeclared = {
        name: file
        for name, file in imported(package).items()
        if name not in allowed and not (name == "torch" and file.startswith("shared/tasks/"))
    }
    assert undeclared == {}


@pytest.mark.parametrize("package", [package for package in PACKAGES if EXTRAS[package]])
def test_an_extra_brings_nothing_that_its_package_does_not_import(package: str) -> None:
    idle = import_names(EXTRAS[package]) - set(imported(package)) - set(NOT_IMPORTED)
    assert idle == set()


def test_ci_runs_the_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    last_line = (ROOT / ".ci/run").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last_line == "exec make test"
    assert "\nmake test\n" in readme
    assert "\nmake demo\n" in readme
