"""An entry as derived exports see it: with its place, its hash, and what DICOM calls its kind of event."""

from dataclasses import dataclass

from shared.audit.entry_types import type_of
from shared.canonical import JsonObject

# DICOM PS3.15 A.5: the kinds of audit events (coding scheme DCM).
EVENTS = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110106": "Export",
    "110107": "Import",
    "110112": "Query",
    "110113": "Security Alert",
    "110114": "User Authentication",
}
OUTCOMES = {"success": "0", "minor": "4", "serious": "8", "major": "12"}
_BY_TYPE = {
    "round.upload": "110106",
    "model.downloaded": "110106",
    "model.exported": "110106",
    "model.published": "110107",
    "infer.request": "110112",
    "authz.deny": "110113",
}


@dataclass(frozen=True, slots=True)
class EntryView:
    """A parsed entry, its number and its leaf hash."""

    index: int
    leaf_hash: str
    entry: JsonObject

    @property
    def meaning(self) -> str:
        """Return what its type means, in a few words."""
        kind = type_of(self.entry["type"])
        return "" if kind is None else kind.meaning

    @property
    def event(self) -> str:
        """Return the DICOM code of its kind of event."""
        type_, kind = self.entry["type"], type_of(self.entry["type"])
        if type_.startswith("alert."):
            return "110113"
        if type_.startswith("audit."):
            return "110101"
        default = "110114" if kind is not None and kind.group == "authentication" else "110100"
        return _BY_TYPE.get(type_, default)

    @property
    def details(self) -> dict[str, str]:
        """Return what leads back to the log, and the hashes it states."""
        shown = {"leafIndex": str(self.index), "leafHash": self.leaf_hash}
        for name in ("ctx_hash", "stmt_hash", "manifest_hash", "model", "plan", "roster"):
            if isinstance(self.entry["data"].get(name), str):
                shown[name] = self.entry["data"][name]
        return shown
