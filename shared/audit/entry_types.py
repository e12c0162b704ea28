"""The table of log entry types: group, default action and the facts each one states in ``data`` (PROTOCOLS B2).

A type is public API: auditors filter by it. It is never renamed and its facts are never taken away.
"""

import re
from dataclasses import dataclass
from typing import Literal

Group = Literal["authentication", "authorisation", "accounting"]
Action = Literal["C", "R", "U", "D", "E"]


@dataclass(frozen=True, slots=True)
class EntryType:
    """What a type of entry means.

    `facts` names the keys its ``data`` must have (more are allowed), `evidence` the kind of signed message that must go
    with it: the coordinator cannot invent a site's act. ``data`` and the message agree wherever both name something.
    """

    group: Group
    action: Action
    meaning: str
    facts: frozenset[str]
    evidence: str | None = None


def _type(group: Group, action: Action, meaning: str, *facts: str) -> EntryType:
    return EntryType(group, action, meaning, frozenset(facts))


def _act(group: Group, action: Action, meaning: str, evidence: str, *facts: str) -> EntryType:
    return EntryType(group, action, meaning, frozenset(facts), evidence)


ENTRY_TYPES: dict[str, EntryType] = {
    # --- the log itself ----------------------------------------------------------------------------------------------
    "log.opened": _type("accounting", "C", "The log begins", "federation", "log_vkey", "coordinator_idk"),
    "log.heartbeat": _type("accounting", "E", "Nothing else happened for an hour"),
    "log.key.rotated": _type("authorisation", "U", "The log signs with another key", "old_vkey", "new_vkey", "reason"),
    "audit.exported": _type("accounting", "R", "Somebody took an export", "size"),
    "audit.viewed": _type("accounting", "R", "Somebody read the trail"),
    "disclosure.erased": _act("accounting", "D", "A disclosed field was erased", "erasure", "leaf", "field", "basis"),
    "study.heads": _type("accounting", "E", "Where studies end so far, so that an omission shows", "heads"),
    # --- enrolment and certificates (C2, C3) -------------------------------------------------------------------------
    "enrol.invited": _type("authentication", "C", "A site was invited", "site", "token_hash"),
    "enrol.requested": _type("authentication", "C", "A site asked to join", "site", "idk", "request"),
    "enrol.approved": _type("authorisation", "U", "An administrator compared the fingerprint", "site", "fingerprint"),
    "enrol.rejected": _type("authorisation", "U", "An administrator said no", "site"),
    "enrol.expired": _type("accounting", "U", "An invitation ran out", "site"),
    "cert.issued": _type("authentication", "C", "A certificate was issued", "site", "serial", "sha256", "not_after"),
    "cert.renewed": _type("authentication", "C", "A certificate was renewed", "site", "serial", "sha256", "not_after"),
    "cert.revoked": _type("authentication", "D", "A site may not connect any more", "site", "reason"),
    # --- people ------------------------------------------------------------------------------------------------------
    "login": _type("authentication", "E", "An operator signed in"),
    "authn.fail": _type("authentication", "E", "Somebody could not show who they are", "reason"),
    "authz.deny": _type("authorisation", "E", "Somebody was not allowed to", "permission"),
    "operator.added": _type("authorisation", "C", "An operator was added", "role"),
    "operator.removed": _type("authorisation", "D", "An operator was removed"),
    "role.changed": _type("authorisation", "U", "An operator's role changed", "role"),
    "token.issued": _type("authorisation", "C", "An API token was issued", "scope"),
    "token.revoked": _type("authorisation", "D", "An API token was revoked"),
    "logout": _type("authentication", "E", "An operator signed out"),
    "account.invited": _type("authorisation", "C", "A one-time link to set a password was made", "expires_at"),
    "account.set_up": _type("authentication", "U", "An operator set password and second factor"),
    "account.bound": _type("authorisation", "U", "Who an operator is at the identity provider was said", "bound"),
    "config.changed": _type("authorisation", "U", "A setting changed", "setting"),
    # --- rosters (A4) ------------------------------------------------------------------------------------------------
    "roster.proposed": _type("authorisation", "C", "A roster version was proposed", "version", "roster"),
    "roster.approved": _act(
        "authorisation", "U", "A site signed a roster version", "approval", "version", "roster", "site"
    ),
    "roster.activated": _type("authorisation", "U", "A roster version has all signatures", "version", "roster"),
    # --- studies -----------------------------------------------------------------------------------------------------
    "study.submitted": _type("accounting", "C", "A study protocol was submitted", "plan"),
    "study.started": _type("accounting", "U", "A study runs"),
    "study.paused": _type("accounting", "U", "A study rests"),
    "study.stopped": _type("accounting", "U", "A study was stopped", "reason"),
    "study.finished": _type("accounting", "U", "A study ran to its end", "reason"),
    "plan.approved": _act("authorisation", "U", "A steward approved a study protocol", "approval", "site", "plan"),
    "plan.withdrawn": _act("authorisation", "U", "A steward withdrew an approval", "approval", "site", "plan"),
    "budget.charged": _type("accounting", "U", "Privacy budget was spent"),
    # --- pairings and rounds (A6, A7). Released shares are logged by their hash only, never kept as evidence ----------
    "pairing.added": _type("accounting", "C", "A site sealed new secrets for its peers", "site", "serial", "pairing"),
    "pairing.complaint": _act(
        "accounting", "E", "A site cannot read what a peer sealed", "complaint", "site", "about", "code"
    ),
    "state.reset": _act("accounting", "U", "A site lost state and says so", "state.reset", "site"),
    "round.open": _type(
        "accounting", "C", "A context was frozen", "ctx_hash", "round", "kind", "model", "plan", "roster"
    ),
    "round.refused": _act("accounting", "E", "A hospital said no", "refusal", "ctx_hash", "site", "code"),
    "round.upload": _act("accounting", "C", "A masked update arrived", "manifest", "ctx_hash", "site", "manifest_hash"),
    "round.complaint": _act(
        "accounting", "E", "A share blob does not open", "complaint", "ctx_hash", "site", "about", "code"
    ),
    "round.close.proposed": _type("accounting", "U", "The survivors are proposed", "ctx_hash", "stmt_hash"),
    "round.decided": _act(
        "accounting", "U", "A site signed the survivors", "decision", "ctx_hash", "stmt_hash", "site"
    ),
    "round.cert": _act("accounting", "U", "Enough sites signed the survivors", "decision", "ctx_hash", "stmt_hash"),
    "round.unmask": _type("accounting", "C", "A site released its shares", "ctx_hash", "stmt_hash", "site", "response"),
    "round.result": _type("accounting", "U", "A sum was published", "ctx_hash", "stmt_hash", "outcome"),
    "round.abort": _type("accounting", "U", "Too few updates; nothing was opened", "ctx_hash", "code"),
    "round.lost": _type("accounting", "U", "Too few signatures or shares", "ctx_hash", "code"),
    "round.attested": _act(
        "accounting", "E", "A site computed the same model itself", "attestation", "ctx_hash", "site", "model"
    ),
    # --- models and metrics ------------------------------------------------------------------------------------------
    "model.published": _type("accounting", "C", "A model version was published", "model"),
    "model.downloaded": _type("accounting", "R", "Somebody fetched a model version", "model"),
    "model.exported": _type("accounting", "R", "A model version left with its card", "model"),
    "metrics.published": _type("accounting", "C", "Federated metrics were published", "model"),
    "infer.request": _type("accounting", "E", "An encrypted query was answered"),
}
ALERT = _type("accounting", "E", "Something needs a person", "detail")
_ALERT_NAME = re.compile(r"alert(\.[a-z0-9_]{1,40}){1,3}")


def type_of(name: object) -> EntryType | None:
    """Return what an entry type means, or None. Every ``alert.*`` is one type."""
    if not isinstance(name, str):
        return None
    return ENTRY_TYPES.get(name) or (ALERT if _ALERT_NAME.fullmatch(name) else None)
