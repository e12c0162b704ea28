"""The documents and the code tell the same story: pages are fresh, links lead somewhere, claims have tests."""

import ast
import re
from pathlib import Path

import pytest

from docs.generate import DOCS, NOTICE, PAGES
from docs.writer.source import PHASES, PROTOCOL
from tests.support.tree import PACKAGES, ROOT, name_of, parsed, python_files, text_files

DOCUMENTS = [path for path in text_files() if path.suffix == ".md"]
LINK = re.compile(r"\]\(([^)\s#]+)?(#[^)\s]*)?\)")
TEST_NAME = re.compile(r"`(?:(tests/[\w/.]+\.py)(?:::)?)?(test_\w+)?`")
PLACES = ("", "shared/", "coordinator/", "site_agent/", "workbench/")
THREAT_MODEL = ROOT / "docs/protocol/threat-model.md"


def anchors(document: Path) -> set[str]:
    """Return the anchors that Markdown renderers give a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def named_tests() -> dict[str, set[str]]:
    """Return the names of the test functions in each test file."""
    return {
        name_of(path): {
            node.name
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        for path in python_files("tests")
    }


@pytest.mark.parametrize("page", PAGES)
def test_generated_page_is_fresh(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == NOTICE + PAGES[page](), "run `make docs`"


def test_every_reference_page_is_generated() -> None:
    written = {path.name for path in (DOCS / "reference").glob("*.md")}
    assert {f"reference/{name}" for name in written} == {page for page in PAGES if page.startswith("reference/")}


def test_every_setting_and_option_says_what_it_means() -> None:
    silent = [
        line
        for page in ("reference/settings.md", "reference/cli.md")
        for line in (DOCS / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and (line.endswith("|  |") if "settings" in page else line.split(" | ")[1] == "")
    ]
    assert silent == []


def test_every_protocol_file_is_on_the_page_of_messages() -> None:
    # problems.py turns errors into documents and back (its table is a page of its own); vector_layout.py computes.
    assert {path.stem for path in PROTOCOL.glob("*.py")} - {"__init__", "problems", "vector_layout"} == set(PHASES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target, fragment in LINK.findall(document.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path = (document.parent / target).resolve() if target else document
        if not path.exists() or (fragment and fragment[1:] not in anchors(path)):
            broken.append(target + fragment)
    assert not broken


def test_every_document_is_reachable_from_the_readme() -> None:
    reached, queue = set(), [ROOT / "README.md"]
    while queue:
        document = queue.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        links = LINK.findall(document.read_text(encoding="utf-8"))
        queue += [(document.parent / target).resolve() for target, _ in links if target and "://" not in target]
    assert sorted(name_of(path) for path in set(DOCUMENTS) - reached) == []


def test_files_named_in_the_architecture_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = {word for word in re.findall(r"`([\w/.*]+)`", text) if "/" in word and not word.startswith(("*", "/"))}
    missing = {
        word
        for word in named
        if not any(list(ROOT.glob(f"{place}{word.rstrip('/')}{suffix}")) for place in PLACES for suffix in ("", ".py"))
    }
    assert missing == set()
    folders = {
        path.name for package in PACKAGES for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()
    }
    assert {folder for folder in folders if f"  {folder}/ " not in text} == set(), "folders the map leaves out"


def test_the_codes_point_to_documents_that_exist() -> None:
    mentioned = set(re.findall(r"docs/[\w/.-]+\.md", (ROOT / "shared/errors.py").read_text(encoding="utf-8")))
    assert {page for page in mentioned if not (ROOT / page).exists()} == set()


def test_every_test_that_the_threat_model_names_exists() -> None:
    everywhere = set().union(*named_tests().values())
    named = re.findall(r"`(test_\w+)`", THREAT_MODEL.read_text(encoding="utf-8"))
    assert len(named) > 50
    assert set(named) - everywhere == set()


def test_every_test_that_auditors_are_shown_exists() -> None:
    everywhere = set().union(*named_tests().values())
    for page in sorted((DOCS / "auditors").glob("*.md")):
        shown = {name for _, name in TEST_NAME.findall(page.read_text(encoding="utf-8")) if name}
        assert shown <= everywhere, f"{page.name} names {sorted(shown - everywhere)}"


def test_the_threat_model_names_every_attack_and_its_tests() -> None:
    rows = re.findall(r"^\| *(\d+) \|.*\| ([^|]+) \|$", THREAT_MODEL.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 30))
    in_files = named_tests()
    everywhere = set().union(*in_files.values())
    for number, state in rows:
        named = [(file, name) for file, name in TEST_NAME.findall(state) if file or name]
        assert named or "Waits for" in state, f"row {number} names neither a test nor what it waits for"
        for file, name in named:
            assert not file or file in in_files, f"row {number} names {file}, which does not exist"
            assert not name or name in (in_files[file] if file else everywhere), f"row {number}: no test {name}"
