"""From a path to a manifest, and from a manifest to the cases of one part."""

from difflib import get_close_matches
from pathlib import Path

from shared.cases import Cases, DataPart
from shared.errors import InputError, Refusal
from shared.ids import check_id
from shared.task_catalogue import ImageTask, TabularTask, TaskSpec
from site_agent.datasets.csv_table import inspect_csv, load_csv
from site_agent.datasets.image_array import inspect_array, load_array
from site_agent.datasets.image_folder import inspect_folder, load_folder
from site_agent.datasets.manifest import DatasetManifest, DatasetOptions

TABLE_SUFFIXES = {".csv", ".tsv", ".txt", ".data"}


def inspect(path: Path, name: str, options: DatasetOptions) -> DatasetManifest:
    """Look at a data set, check every cell or image, and return its manifest.

    Raises:
        InputError: ``id_malformed``, ``data_missing``, ``data_unreadable``, ``data_column_missing``,
            ``data_not_numeric``, ``data_label_invalid``, ``data_one_class``, ``data_empty``, ``data_split_invalid``.
    """
    check_id(name, "data set")
    place = path.expanduser().absolute()
    if not place.exists():
        raise InputError("data_missing", f"{place} does not exist")
    try:
        if place.is_dir():
            return inspect_folder(place, name, options)
        if place.suffix.lower() == ".npz":
            return inspect_array(place, name)
        if place.suffix.lower() in TABLE_SUFFIXES:
            return inspect_csv(place, name, options)
    except OSError as error:
        raise InputError("data_unreadable", f"{place}: {error.strerror or error}") from error
    raise InputError("data_unreadable", f"{place}: a .csv or .npz file or a folder of images was expected")


def load_part(manifest: DatasetManifest, part: DataPart, task: TaskSpec) -> Cases:
    """Return the cases of one part in the form of the task.

    Raises:
        Refusal: ``data_changed`` when the bytes are not those that were registered, ``data_task_mismatch``,
            ``data_column_missing``.
        InputError: as `inspect`, when the data can no longer be read.
    """
    check_fits(manifest, task)
    path = Path(manifest.path)
    if not path.exists():
        raise InputError("data_missing", f"{path} does not exist any more")
    try:
        if isinstance(task, TabularTask):
            cases, content = load_csv(path, manifest, part, task)
        elif manifest.kind == "image_array":
            cases, content = load_array(path, part, task)
        else:
            cases, content = load_folder(path, manifest, part, task)
    except OSError as error:
        raise InputError("data_unreadable", f"{path}: {error.strerror or error}") from error
    if content != manifest.content:
        raise Refusal("data_changed", f"{path} is not what was registered as {manifest.name}")
    return cases


def check_fits(manifest: DatasetManifest, task: TaskSpec) -> None:
    """Check that a data set has the form a study's task asks for; to be called before a study is approved.

    Raises:
        Refusal: ``data_task_mismatch`` names what differs, ``data_column_missing`` the column and the nearest one.
    """
    if isinstance(task, ImageTask):
        if manifest.kind == "csv_table":
            raise Refusal("data_task_mismatch", f"{manifest.name} is a table; the task asks for images")
        if manifest.kind == "image_folder" and len(manifest.classes) != task.classes:
            names = ", ".join(manifest.classes)
            raise Refusal("data_task_mismatch", f"{manifest.name} has the classes {names}; the task has {task.classes}")
    else:
        if manifest.kind != "csv_table":
            raise Refusal("data_task_mismatch", f"{manifest.name} holds images; the task asks for a table")
        if manifest.label != task.label:
            label = manifest.label
            raise Refusal("data_task_mismatch", f"the label of {manifest.name} is {label!r}, not {task.label!r}")
        for feature in task.features:
            if feature not in manifest.features:
                near = get_close_matches(feature, manifest.features, 1, 0.4)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise Refusal("data_column_missing", f"{manifest.name} has no feature {feature!r}{hint}")
    if len(manifest.classes) > task.classes:
        largest = len(manifest.classes) - 1
        raise Refusal(
            "data_task_mismatch", f"{manifest.name} has labels up to {largest}; the task has {task.classes} classes"
        )
