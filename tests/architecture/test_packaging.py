"""pyproject.toml (ranges), constraints.txt (pins) and the commands of the README belong together."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIN_LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PINS = {canonicalize_name(name): version for name, version in (line.split("==") for line in PIN_LINES)}


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


def test_ci_runs_the_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    last_line = (ROOT / ".ci/run").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last_line == "exec make test"
    assert "\nmake test\n" in readme
    assert "\nmake demo\n" in readme
