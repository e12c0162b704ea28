"""Who may import whom: the contracts of pyproject.toml, and what is really loaded when a process starts."""

import json
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.support.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = {"monai", "opacus", "torch"}
# The import names that differ from the distribution's name.
IMPORT_NAMES = {
    "argon2-cffi": "argon2",
    "pydantic-settings": "pydantic_settings",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".migrations." not in module.name:
        importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

IMPORT_ONE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

WITHOUT_EXTRAS = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
BLOCKED = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Missing())
sys.argv[0] = "mitral"
from workbench.cli.main import main
sys.exit(main())
"""


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a small program in a fresh interpreter at the root of the repository."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def loaded(program: str, module: str) -> set[str]:
    """Return the top-level modules that are loaded after the program imported `module`."""
    done = python(program, module)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def names_of(extra: str | None) -> set[str]:
    """Return the import names of the base's (None) or an extra's own requirements."""
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found = {Requirement(line).name for line in listed} - {"mitral"}
    return {IMPORT_NAMES.get(name, name) for name in found}


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert "7 kept, 0 broken" in done.stdout


def test_no_module_of_the_coordinator_loads_torch() -> None:
    everything = loaded(IMPORT_ALL, "coordinator")
    assert "fastapi" in everything, "the service itself was imported"
    assert everything.isdisjoint(HEAVY)


@pytest.mark.parametrize("module", ["site_agent.agent", "site_agent.cli.main", "workbench.cli.main"])
def test_starting_this_process_loads_no_torch(module: str) -> None:
    assert loaded(IMPORT_ONE, module).isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "verify", "--help"]])
def test_the_verifier_needs_no_extra(arguments: list[str]) -> None:
    extras = set().union(*(names_of(extra) for extra in ("coordinator", "site", "workbench"))) - names_of(None)
    done = python(WITHOUT_EXTRAS, ",".join(sorted(extras)), *arguments)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("arguments", [["demo"], ["bench", "round"], ["study", "check", "study.yaml"]])
def test_a_missing_extra_is_named(arguments: list[str]) -> None:
    extras = set().union(*(names_of(extra) for extra in ("coordinator", "site", "workbench"))) - names_of(None)
    done = python(WITHOUT_EXTRAS, ",".join(sorted(extras)), *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert "workbench" in done.stderr + done.stdout
