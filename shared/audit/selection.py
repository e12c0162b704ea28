"""Which entries go into a partial export: those asked for, and those without which they could not be judged.

A study's export holds all its entries; their numbers, and a `study.heads` entry, show that none is missing. An export
of a time holds every entry in it and the entry just outside on each side. Either holds, besides, what gives entries
their meaning: rosters, approvals of study protocols, erasures, and rounds whole (PROTOCOLS B5).
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from shared.canonical import JsonObject

_FRAME = ("roster.", "log.opened", "log.key.rotated", "disclosure.erased")


@dataclass(frozen=True, slots=True)
class Selection:
    """What an export is restricted to: a study, and the first and last time (as entries write it), each inclusive."""

    study: str | None = None
    start: str | None = None
    end: str | None = None

    def as_json(self) -> JsonObject:
        """Return the form in the MANIFEST."""
        return {"study": self.study, "from": self.start, "to": self.end}

    def select(self, leaves: Iterable[bytes]) -> set[int]:  # noqa: C901 (one question after the other)
        """Return the places of the entries to export, out of all `leaves` of the log."""
        chosen: set[int] = set()
        rounds: dict[str, list[int]] = defaultdict(list)
        round_of: dict[int, str] = {}
        of_study: dict[str, list[int]] = defaultdict(list)
        before = after = heads = None
        count = 0
        for index, leaf in enumerate(leaves):
            entry, count = json.loads(leaf), index + 1
            if entry["study"] is not None:
                of_study[entry["study"]].append(index)
            if entry["type"].startswith("round."):
                round_of[index] = entry["data"]["ctx_hash"]
                rounds[round_of[index]].append(index)
            if entry["type"].startswith(_FRAME) or (entry["type"].startswith("plan.") and self._concerns(entry)):
                chosen.add(index)
            if entry["type"] == "study.heads" and self.study in entry["data"]["heads"]:
                heads = index
            if not self._concerns(entry):
                continue
            if self.start is not None and entry["ts"] < self.start:
                before = index
            elif self.end is None or entry["ts"] <= self.end:
                chosen.add(index)
            elif after is None:
                after = index
        chosen |= {index for index in (before, after) if index is not None}
        if heads is not None:
            chosen |= set(range(heads, count))  # everything after that shows that the study still ends there
        touched = {round_of[index] for index in chosen if index in round_of}
        chosen = chosen.union(*(rounds[ctx_hash] for ctx_hash in touched))
        for places in of_study.values():
            # Whether a round was allowed hangs on everything that was said before: approvals, what was sealed once.
            last = max((index for index in places if index in chosen and index in round_of), default=-1)
            chosen |= {index for index in places if index <= last}
        return chosen

    def _concerns(self, entry: JsonObject) -> bool:
        return self.study is None or entry["study"] == self.study
