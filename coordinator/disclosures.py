"""Erasing what opens a committed field: by a signed order, in the transaction of the entry that says so (B2)."""

import re
from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.operators import Principal, actor_of
from coordinator.storage import log as stored
from coordinator.storage.database import Transaction
from shared.canonical import JsonObject, sha256_hex
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import InputError
from shared.ids import COORDINATOR

_BASIS = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")


def erase(
    tx: Transaction, log: AuditLog, by: Principal, index: int, name: str, basis: str, now: datetime
) -> JsonObject:
    """Erase the disclosure of field `name` of entry `index`; every entry, hash and proof stays as it is.

    The order names entry, field, legal basis (a word such as ``gdpr-17``, never free text) and who gave it, and is
    signed with the coordinator's identity key: the coordinator can neither erase unseen nor deny that it did.

    Raises:
        InputError: ``basis_malformed``; ``disclosure_missing`` when no such field is disclosed, or not any more.
    """
    if not _BASIS.fullmatch(basis):
        raise InputError("basis_malformed", f"{basis[:80]!r} is not a word of lowercase letters and digits")
    leaf = stored.read_leaf(tx, index)
    if leaf is None or not stored.erase_disclosure(tx, index, name):
        raise InputError("disclosure_missing", f"entry {index} has no disclosed field {name[:80]!r}")
    order = {"leaf": leaf.leaf_hash.hex(), "field": name, "basis": basis}
    signed = sign_envelope("erasure", {"v": "SA1", "kind": "erasure", **order, "by": by.operator}, COORDINATOR, log.idk)
    stored.add_dsse(tx, sha256_hex(signed), signed)
    fact = Fact("disclosure.erased", actor_of(by), order, subject=("entry", str(index)), evidence=(sha256_hex(signed),))
    entry = log.append(tx, fact, now)
    return {"erased": order, "log_index": entry.index}
