"""The roster: the signed list of sites and keys that everything else rests on (PROTOCOLS A4).

A roster is a canonical JSON object named by its hash. Nothing in it is believed because the coordinator sent it: every
listed site signs the hash, and each site's steward compared the fingerprints of the others by telephone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from shared.canonical import JsonObject, b64u, canonical_bytes, from_b64u, hash_bytes, tagged_hash
from shared.crypto.fingerprint import site_fingerprint
from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.sealing import SUITE, KemPublicKey
from shared.crypto.signed_envelope import SignedMessage, open_envelope, peek_signer, sign_envelope
from shared.errors import PeerFault
from shared.ids import COORDINATOR
from shared.secagg import roster_form
from shared.secagg.roster_form import VERSION, is_count, read_kem

check_roster = roster_form.check_roster
kem_attest_message = roster_form.kem_attest_message


@dataclass(frozen=True, slots=True)
class RosterChanges:
    """What a steward has to look at before signing a new version. `rekeyed` sites have a new identity or log key."""

    added: list[str]
    removed: list[str]
    rekeyed: list[str]


def site_entry(
    site_id: str,
    *,
    name: str,
    legal: str,
    idk: VerifyKey,
    log_key: VerifyKey,
    kem: KemPublicKey,
    kem_seq: int,
    attest: bytes,
) -> JsonObject:
    """Return a site's entry; `attest` is the signature `attest_kem` made."""
    return {
        "id": site_id,
        "name": name,
        "legal": legal,
        "idk": b64u(idk.bytes),
        "mldsa44": None,
        "log_key": b64u(log_key.bytes),
        "kem": _kem_entry(kem),
        "kem_seq": kem_seq,
        "kem_attest": b64u(attest),
    }


def coordinator_entry(idk: VerifyKey, log_vkey: str, kem: KemPublicKey) -> JsonObject:
    """Return the coordinator's entry; `log_vkey` is the C2SP verifier key of the log."""
    return {"idk": b64u(idk.bytes), "log_vkey": log_vkey, "kem": _kem_entry(kem)}


def build_roster(
    federation: str,
    version: int,
    prev: str | None,
    *,
    sites: Iterable[JsonObject],
    coordinator: JsonObject,
    not_after: date,
    c: int | None = None,
) -> JsonObject:
    """Return a checked roster object; `c` defaults to ``max(1, floor((N-1)/3))`` (PROTOCOLS A3).

    Raises:
        PeerFault: ``roster_malformed`` for anything `check_roster` refuses.
    """
    listed = sorted(sites, key=lambda site: str(site["id"]))
    roster: JsonObject = {
        "v": VERSION,
        "federation": federation,
        "version": version,
        "prev": prev,
        "c": max(1, (len(listed) - 1) // 3) if c is None else c,
        "suite": SUITE,
        "pinning": "direct",
        "sites": listed,
        "coordinator": coordinator,
        "not_after": not_after.isoformat(),
    }
    check_roster(roster)
    return roster


def roster_hash(roster: JsonObject) -> str:
    """Return ``H("SA1 roster", JCS)`` as hex."""
    return tagged_hash("SA1 roster", canonical_bytes(roster)).hex()


def attest_kem(idk: SigningKey, kem: KemPublicKey, kem_seq: int) -> bytes:
    """Return the identity key's signature over a KEM pair and its rising number."""
    return idk.sign(kem_attest_message(kem, kem_seq))


def check_successor(old: JsonObject, new: JsonObject) -> None:
    """Check that `new` may follow the active roster `old`: same federation, higher version, ``prev`` its hash.

    A KEM pair changes only together with a higher ``kem_seq``. That enough members agreed is `check_approvals`' matter.

    Raises:
        PeerFault: ``roster_federation``, ``roster_version``, ``roster_prev``, ``roster_kem_seq``.
    """
    if new["federation"] != old["federation"]:
        raise PeerFault(
            "roster_federation", f"roster of {new['federation']!r}, the active one is {old['federation']!r}'s"
        )
    if new["version"] <= old["version"]:
        raise PeerFault("roster_version", f"version {new['version']} does not follow active version {old['version']}")
    if new["prev"] != roster_hash(old):
        raise PeerFault(
            "roster_prev", f"version {new['version']} does not name active version {old['version']} as previous"
        )
    before = {site["id"]: site for site in old["sites"]}
    for site in new["sites"]:
        known = before.get(site["id"])
        if known is None or known["kem"] == site["kem"]:
            continue
        if known["idk"] == site["idk"] and site["kem_seq"] <= known["kem_seq"]:
            raise PeerFault("roster_kem_seq", f"{site['id']} has other KEM keys without a higher kem_seq")


def roster_changes(old: JsonObject | None, new: JsonObject) -> RosterChanges:
    """Return who came, went or changed identity. With `old` None (genesis) everyone came."""
    before = {site["id"]: site for site in old["sites"]} if old else {}
    after = {site["id"]: site for site in new["sites"]}
    identity = ("idk", "log_key")
    return RosterChanges(
        added=[site for site in after if site not in before],
        removed=[site for site in before if site not in after],
        rekeyed=[s for s in after if s in before and any(after[s][key] != before[s][key] for key in identity)],
    )


def next_quorum(roster: JsonObject) -> int:
    """Return how many members of this version must approve the next one: ``floor((N + c)/2) + 1``."""
    return (len(roster["sites"]) + int(roster["c"])) // 2 + 1


def approval_payload(roster: JsonObject, site_id: str, seq: int, prev: str) -> JsonObject:
    """Return the payload of a site's approval (kind ``approval``)."""
    return {
        "v": VERSION,
        "kind": "roster",
        "roster": roster_hash(roster),
        "version": roster["version"],
        "site": site_id,
        "seq": seq,
        "prev": prev,
    }


def sign_approval(roster: JsonObject, site_id: str, seq: int, prev: str, key: SigningKey) -> bytes:
    """Return a site's approval envelope."""
    return sign_envelope("approval", approval_payload(roster, site_id, seq, prev), site_id, key)


def check_approval(roster: JsonObject, raw: bytes, keys: Mapping[str, VerifyKey]) -> SignedMessage:
    """Verify one approval of this roster under `keys`.

    Raises:
        PeerFault: ``roster_approval_foreign`` for an approval of something else; ``signature_invalid``,
            ``signer_unknown``, ``envelope_*`` for a bad envelope.
    """
    return _check_approval(roster, roster_hash(roster), raw, keys)


def check_approvals(
    roster: JsonObject, envelopes: Iterable[bytes], previous: JsonObject | None, *, joining: bool = False
) -> list[SignedMessage]:
    """Check that every listed site signed this roster, and that a quorum of the `previous` active one did.

    `previous` is None only for the genesis roster. An approval may come under a site's key in the new roster or, from a
    member that leaves or changes its key, under its key in the previous one. Returns the verified messages.

    A site that is `joining` has no previous version to count a quorum of: like a founder it rests on the signatures of
    all listed sites, each of which counted for itself, and on the fingerprints its administrator compared. Approvals of
    members that leave mean nothing to it.

    Raises:
        PeerFault: ``roster_unapproved`` (names the missing sites), ``roster_quorum``, and what `check_approval` and
            `check_successor` raise.
    """
    if previous is not None:
        check_successor(previous, roster)
    elif roster["prev"] is not None and not joining:
        raise PeerFault(
            "roster_prev", f"version {roster['version']} is not a genesis roster; its previous one is needed"
        )
    listed = site_keys(roster)
    members = site_keys(previous) if previous is not None else {}
    wanted = roster_hash(roster)
    accepted: set[str] = set()
    agreed: set[str] = set()
    messages = []
    for raw in envelopes:
        signer = peek_signer(raw)
        own = listed.get(signer)
        former = members.get(signer)
        if joining and own is None:
            continue
        try:
            message = _check_approval(roster, wanted, raw, {} if own is None else {signer: own})
            accepted.add(signer)
            agreed |= {signer} if own == former else set()
        except PeerFault as error:
            if former is None or former == own or error.code not in {"signer_unknown", "signature_invalid"}:
                raise
            message = _check_approval(roster, wanted, raw, {signer: former})
            agreed.add(signer)
        messages.append(message)
    missing = sorted(set(listed) - accepted)
    if missing:
        raise PeerFault("roster_unapproved", f"version {roster['version']} is not signed by {', '.join(missing)}")
    if previous is not None and len(agreed) < next_quorum(previous):
        need, version = next_quorum(previous), previous["version"]
        raise PeerFault("roster_quorum", f"{len(agreed)} members of version {version} agreed, {need} are needed")
    return messages


def site_keys(roster: JsonObject) -> dict[str, VerifyKey]:
    """Return site id -> pinned identity key."""
    return {site["id"]: VerifyKey.from_bytes(from_b64u(site["idk"], size=32)) for site in roster["sites"]}


def log_keys(roster: JsonObject) -> dict[str, VerifyKey]:
    """Return site id -> the key it cosigns log checkpoints with."""
    return {site["id"]: VerifyKey.from_bytes(from_b64u(site["log_key"], size=32)) for site in roster["sites"]}


def kem_keys(roster: JsonObject) -> dict[str, KemPublicKey]:
    """Return site id -> KEM pair."""
    return {site["id"]: read_kem(site["kem"]) for site in roster["sites"]}


def coordinator_key(roster: JsonObject) -> VerifyKey:
    """Return the coordinator's pinned identity key."""
    return VerifyKey.from_bytes(from_b64u(roster["coordinator"]["idk"], size=32))


def coordinator_kem(roster: JsonObject) -> KemPublicKey:
    """Return the coordinator's KEM pair."""
    return read_kem(roster["coordinator"]["kem"])


def all_keys(roster: JsonObject) -> dict[str, VerifyKey]:
    """Return site id or ``coordinator`` -> identity key, as `open_envelope` takes it."""
    return {**site_keys(roster), COORDINATOR: coordinator_key(roster)}


def fingerprints(roster: JsonObject) -> dict[str, str]:
    """Return site id -> the fingerprint to compare by telephone."""
    return {
        site["id"]: site_fingerprint(from_b64u(site["idk"], size=32), from_b64u(site["log_key"], size=32))
        for site in roster["sites"]
    }


def is_expired(roster: JsonObject, now: datetime) -> bool:
    """Return whether the last day (``not_after``, UTC) has passed."""
    return now.date() > date.fromisoformat(roster["not_after"])


def _check_approval(roster: JsonObject, wanted: str, raw: bytes, keys: Mapping[str, VerifyKey]) -> SignedMessage:
    message = open_envelope(raw, "approval", keys)
    body = message.body
    seq, prev = body.get("seq"), body.get("prev")
    expected = {
        "v": VERSION,
        "kind": "roster",
        "roster": wanted,
        "version": roster["version"],
        "site": message.keyid,
        "seq": seq,
        "prev": prev,
    }
    if body != expected or not is_count(seq) or not isinstance(prev, str):
        raise PeerFault("roster_approval_foreign", f"{message.keyid} signed something else than this roster")
    hash_bytes(prev)
    return message


def _kem_entry(kem: KemPublicKey) -> JsonObject:
    return {"mlkem768": b64u(kem.mlkem768), "x25519": b64u(kem.x25519)}
