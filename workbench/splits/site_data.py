"""What a split hands to each hospital: a path and the options its data steward would type."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError


@dataclass(frozen=True)
class SiteData:
    """One hospital's data set and how it is registered (``mitral-site data add``)."""

    path: Path
    label: str | None = None
    features: tuple[str, ...] = ()
    split: str = "70/15/15"
    seed: int = 0

    def arguments(self) -> list[str]:
        """Return the options of ``mitral-site data add`` after the path."""
        given = ["--label", self.label] if self.label is not None else []
        if self.features:
            given += ["--features", ",".join(self.features)]
        return [*given, "--split", self.split, "--seed", str(self.seed)] if self.label is not None else given


@dataclass(frozen=True)
class Split:
    """The data of all hospitals; a warning says, for instance, that a source file is not the published one."""

    sites: dict[str, SiteData]
    warnings: list[str]


def check_source(source: Path | None, files: Mapping[str, str], where: str) -> tuple[Path, list[str]]:
    """Return the folder that holds `files` (name -> SHA-256), and a warning for each file with another checksum.

    Raises:
        InputError: ``demo_data_missing`` says where to get the data and which checksums it has.
    """
    absent = sorted(files) if source is None else [name for name in sorted(files) if not (source / name).is_file()]
    if source is None or absent:
        wanted = "\n".join(f"  {name}  sha256 {files[name]}" for name in sorted(files))
        place = "--data PATH is needed" if source is None else f"{source} has no {', '.join(absent)}"
        raise InputError("demo_data_missing", f"{place}. {where} Expected files:\n{wanted}")
    warnings = []
    for name, expected in files.items():
        found = hashlib.sha256((source / name).read_bytes()).hexdigest()
        if found != expected:
            warnings.append(
                f"{name} has the SHA-256 {found}, not {expected}: figures may differ from the published ones"
            )
    return source, warnings


def check_sites(sites: Sequence[str], expected: int) -> None:
    """Check that the data is cut into as many hospitals as asked for.

    Raises:
        InputError: ``demo_data_missing``.
    """
    if len(sites) != expected:
        raise InputError("demo_data_missing", f"this data has {expected} hospitals, {len(sites)} were asked for")
