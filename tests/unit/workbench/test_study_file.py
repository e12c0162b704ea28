"""Study files: what is written becomes the plan, and what is wrong is named with its line and the nearest valid key."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml

from shared.errors import InputError
from shared.protocol.study import Plan
from workbench.study_example import example, to_fill_in
from workbench.study_fields import SECTIONS, TASKS, fields_of
from workbench.study_file import StudyDraft, StudyFileError, load_study_file, read_study

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINIMAL = """\
study: heart-1
title: Heart disease
purpose: Tell narrowed vessels from healthy ones
federation: valve
sites: [c, a, b]
not_after: 2027-06-30
task:
  name: tabular
  features: [age, chol]
  label: target
"""


def read(text: str) -> StudyDraft:
    return read_study(text.encode(), "study.yaml", NOW)


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(StudyFileError) as caught:
        read(text)
    return [(problem.line, problem.key, problem.text) for problem in caught.value.problems]


def only_problem(text: str) -> tuple[int, str, str]:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("task", TASKS)
def test_the_example_passes_and_names_what_must_be_filled_in(task: str) -> None:
    text = example(task, date(2026, 11, 21))
    draft = read(text)
    assert set(draft.placeholders) == set(to_fill_in(task)) - {"not_after"}
    for path in to_fill_in(task):
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{path.rpartition('.')[2]}:"))
        assert "TO FILL IN" in line


@pytest.mark.parametrize("task", TASKS)
def test_the_example_shows_every_key_and_section(task: str) -> None:
    text = example(task, date(2026, 11, 21))
    for field in fields_of(task):
        assert f"{field.name}:" in text
    assert all(meaning in text for meaning in SECTIONS.values())


def test_a_minimal_file_takes_the_defaults_and_becomes_a_plan() -> None:
    plan = read(MINIMAL).plan("ab" * 32, 3)
    assert isinstance(plan, Plan)
    assert plan.sites == ["a", "b", "c"]
    assert plan.training.learning_rate == "0.1"
    assert plan.training.rounds == 20
    assert plan.task["model"]["name"] == "logistic_regression"
    assert plan.not_after == "2027-06-30T23:59:59.000Z"
    assert plan.secure_aggregation.b == 24
    assert plan.secure_aggregation.q == 20
    assert plan.initial_model == "ab" * 32
    assert Plan.parse(plan.canonical()) == plan


def test_nothing_in_the_file_is_marked_as_an_example_when_it_was_filled_in() -> None:
    assert read(MINIMAL).placeholders == []


@pytest.mark.parametrize("written", ["0.10", ".1", "1e-1", "1.0e-1", '"0.1"', "0.1000"])
def test_equal_numbers_are_equal_plans_however_they_are_written(written: str) -> None:
    draft = read(MINIMAL + f"training: {{learning_rate: {written}}}\n")
    assert draft.values["training"]["learning_rate"] == "0.1"


def test_fractions_keep_every_digit_that_was_written() -> None:
    draft = read(MINIMAL + "training: {learning_rate: 0.12345678901234567890123}\n")
    assert draft.values["training"]["learning_rate"] == "0.12345678901234567890123"


def test_all_problems_are_reported_at_once_in_the_order_of_the_lines() -> None:
    text = MINIMAL + "trainig: {}\ntraining:\n  rounds: 0\n  learnig_rate: 1\n  seed: x\n"
    found = problems(text)
    assert [(line, key) for line, key, _ in found] == [
        (11, "trainig"),
        (13, "training.rounds"),
        (14, "training.learnig_rate"),
        (15, "training.seed"),
    ]
    with pytest.raises(StudyFileError, match="4 problems") as caught:
        read(text)
    assert "line 14" in caught.value.diagnostics()


@pytest.mark.parametrize(
    ("written", "key", "expected"),
    [
        ("training: {learnig_rate: 1}", "training.learnig_rate", "the nearest valid key is learning_rate"),
        ("learning_rate: 1", "learning_rate", "belongs to section training: training.learning_rate"),
        ("training: {patience: 3}", "training.patience", "belongs to section selection: selection.patience"),
        ("training: {federation: x}", "training.federation", "belongs to the top level"),
        ("selecton: {patience: 3}", "selecton", "the nearest valid key is selection"),
        ("deadlines: {upload: 3}", "deadlines.upload", "the nearest valid key is upload_seconds"),
        ("Rounds: 3", "Rounds", "training.rounds"),
        ("zzz: 3", "zzz", "the nearest valid key is"),
    ],
)
def test_an_unknown_or_misplaced_key_names_its_line_and_the_nearest_valid_key(
    written: str, key: str, expected: str
) -> None:
    line, named, text = only_problem(MINIMAL + written + "\n")
    assert (line, named) == (11, key)
    assert expected in text


def test_a_key_of_another_task_says_so() -> None:
    text = MINIMAL.replace("  label: target\n", "  label: target\n  image_size: 28\n")
    _, key, said = only_problem(text)
    assert key == "task.image_size"
    assert "belongs to the task image_classification" in said


def test_a_key_of_another_model_says_so() -> None:
    line, key, said = only_problem(MINIMAL + "  model: {name: logistic_regression, hidden: [4]}\n")
    assert (line, key) == (11, "task.model.hidden")
    assert "logistic_regression has no hidden" in said


def test_a_duplicate_key_is_refused_with_both_lines() -> None:
    line, key, said = only_problem(MINIMAL + "training: {rounds: 3}\nstudy: other\n")
    assert (line, key) == (12, "study")
    assert "line 1" in said


@pytest.mark.parametrize(
    ("written", "key", "expected"),
    [
        ("training: {rounds: 10001}", "training.rounds", "from 1 to 10000"),
        ("training: {rounds: true}", "training.rounds", "not a whole number"),
        ("training: {rounds: 1.0}", "training.rounds", "not a whole number"),
        ("training: {rounds: [1]}", "training.rounds", "a list stands here"),
        ("training: {rounds: }", "training.rounds", "nothing stands here"),
        ("training: {learning_rate: 0}", "training.learning_rate", "above 0"),
        ("training: {learning_rate: .nan}", "training.learning_rate", "not a number"),
        ("training: {learning_rate: .inf}", "training.learning_rate", "not a number"),
        ("training: {learning_rate: 0,5}", "training", ""),
        ("training: {optimizer: adm}", "training.optimizer", "did you mean adam?"),
        ("training: 3", "training", "expected a section"),
        ("secure_aggregation: {b: 16, q: 15}", "secure_aggregation.q", "3 sites need 2 bits"),
        ("secure_aggregation: {q: 24}", "secure_aggregation.q", "from 2 to 20"),
        ("secure_aggregation: {least_survivors: 4}", "secure_aggregation.least_survivors", "never be reached"),
        ("secure_aggregation: {clip: {tensors: {w: -1}}}", "secure_aggregation.clip.tensors", "above 0"),
        ("deadlines: {expire_seconds: 60}", "deadlines.expire_seconds", "longer than"),
        (
            "deadlines: {upload_seconds: 60, grace_seconds: 5, expire_seconds: 65}",
            "deadlines.expire_seconds",
            "longer than",
        ),
    ],
)
def test_types_and_ranges_are_checked(written: str, key: str, expected: str) -> None:
    found = problems(MINIMAL + written + "\n")
    assert any(named.startswith(key) and expected in text for _, named, text in found), found
    assert {line for line, _, _ in found} == {11}


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ("federation: valve", "federation: no", "federation", 'write "no" in quotes'),
        ("study: heart-1", "study: Heart 1", "study", "1 to 64 of a-z"),
        ("sites: [c, a, b]", "sites: [a, b]", "sites", "expected 3 to 200"),
        ("sites: [c, a, b]", "sites: [a, b, a]", "sites", "'a' stands twice"),
        ("sites: [c, a, b]", "sites: a", "sites", "a list of ids"),
        ("not_after: 2027-06-30", "not_after: 2026-11-20", "not_after", "this day is over"),
        ("not_after: 2027-06-30", "not_after: next year", "not_after", "a date such as"),
        ("  name: tabular", "  name: tabula", "task.name", "did you mean tabular?"),
        ("  label: target\n", "", "task.label", "is missing in section task"),
        ("title: Heart disease\n", "", "title", "is missing"),
        ("title: Heart disease", "title: ''", "title", "0 characters"),
    ],
)
def test_the_required_keys_are_checked(old: str, new: str, key: str, expected: str) -> None:
    _, named, text = only_problem(MINIMAL.replace(old, new))
    assert named == key
    assert expected in text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "empty"),
        (b"- a\n", "not made of"),
        (b"a: [1\n", "this is not YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: &x 1\nb: *x\n", "aliases are not read"),
        (b"a: 1\n---\nb: 1\n", "this is not YAML"),
        (b"a: !!python/object/apply:os.system [ls]\n", "the tag"),
        (b"? [a]\n: 1\n", "not plain text"),
        (b"a: " + b"[" * 3000, "this is not YAML"),
        (b"a: " + b"[" * 30 + b"]" * 30, "nested more than"),
        (b"# " + b"x" * (1 << 20) + b"\na: 1", "at most"),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_refused(raw: bytes, expected: str) -> None:
    with pytest.raises(StudyFileError, match=expected):
        read_study(raw, "study.yaml", NOW)


def test_an_alias_bomb_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(StudyFileError, match="aliases are not read"):
        read_study("\n".join(lines).encode(), "study.yaml", NOW)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_study_file(tmp_path / "none.yaml", NOW)
    assert caught.value.code == "study_file_missing"
    assert "none.yaml" in caught.value.detail


@pytest.mark.parametrize("task", TASKS)
def test_a_draft_written_back_as_yaml_is_the_same_draft(task: str) -> None:
    draft = read(example(task, date(2026, 11, 21)))
    values = {key: value for key, value in draft.values.items() if key not in {"v", "kind", "dp"}}
    again = read(yaml.safe_dump(values))
    assert again.values == draft.values
