"""Every secret a kept demo knows, opened with the keys that lie beside it: what a log must never hold."""

import csv
import json
import sqlite3
from pathlib import Path

from shared.canonical import from_b64u
from shared.crypto.at_rest import load_or_create_kek, open_at_rest

_SEEDS = ("idk_seed", "log_seed", "kem_seeds", "tls_password")


def known_secrets(federation: Path) -> dict[str, bytes]:
    """Return secrets by a name for people: tokens, keys, pair secrets, weights and rows of data."""
    found: dict[str, bytes] = {}
    for path in [
        *federation.glob("*.access.json"),
        *federation.glob("*/*.access.json"),
        *federation.glob("invitation-*.json"),
    ]:
        found[f"token of {path.name}"] = json.loads(path.read_text())["token"].encode()
    found |= _of_coordinator(federation / "coordinator")
    for state in sorted((federation / "sites").iterdir()):
        found |= {f"{state.name}: {what}": secret for what, secret in _of_site(state).items()}
    for path in sorted((federation.parent / "data").rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            row = list(csv.reader(file))[1]
        found[f"a row of {path.name}"] = ",".join(row).encode()
    return found


def _of_coordinator(state: Path) -> dict[str, bytes]:
    kek_file = next(state.rglob("kek"))
    kek = load_or_create_kek(kek_file)
    sealed = open_at_rest(kek, (kek_file.parent / "keys.sealed").read_bytes(), "coordinator/keys")
    keys = json.loads(sealed)
    plain = {f"coordinator: {name}": keys[name].encode() for name in keys}
    raw = {f"coordinator: {name}, raw": from_b64u(keys[name]) for name in ("idk", "log_key", "kem")}
    return {"coordinator: kek": kek.reveal(), **plain, **raw}


def _of_site(state: Path) -> dict[str, bytes]:
    kek = load_or_create_kek(state / "kek")
    found = {"kek": kek.reveal()}
    database = sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)
    try:
        row = database.execute(f"SELECT {', '.join(_SEEDS)} FROM enrolment").fetchone()
        found |= {name: open_at_rest(kek, row[index], f"enrolment/{name}") for index, name in enumerate(_SEEDS)}
        query = "SELECT study, serial, secrets FROM pairing WHERE secrets IS NOT NULL"
        for study, serial, sealed in database.execute(query):
            halves = json.loads(open_at_rest(kek, sealed, f"pairing/{study}/{serial}"))
            found |= {f"half for {member}, {study}/{serial}": bytes.fromhex(half) for member, half in halves.items()}
    finally:
        database.close()
    for model in sorted((state / "models").glob("*.safetensors"))[:3]:
        # The end of the file is weights; no text holds 24 of their bytes in a row by accident.
        found[f"weights of {model.name}"] = model.read_bytes()[-24:]
    return found
