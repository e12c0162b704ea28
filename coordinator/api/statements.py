"""The common path of every signed PUT: verify, commit once, answer with the receipt."""

from collections.abc import Callable

from starlette.responses import Response

from coordinator import rosters, sites, statements
from coordinator.api.call import Call, JsonAnswer
from coordinator.sites import SitePrincipal
from coordinator.storage.database import Transaction
from shared.canonical import b64u
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import Misuse, MitralError

Accept = Callable[[Transaction, SitePrincipal, SignedMessage], None]


def own_key(call: Call) -> VerifyKey:
    """Return the identity key of the site that asks; the path has to name the same site.

    Raises:
        Refusal: ``site_mismatch``, ``site_revoked`` and the like.
    """
    coordinator = call.coordinator
    statements.check_path(call.site, call.id("site"))
    with coordinator.database.reading("read a site's key") as tx:
        return sites.verify_key(sites.check_active(tx, call.site, coordinator.federation, coordinator.clock.now()))


def open_body(call: Call, kind: str, *, in_roster: bool = True) -> SignedMessage:
    """Return the verified statement in the body.

    Statements are kept as evidence, which an auditor checks against the rosters: a site that is in none yet, or that
    enrolled anew under another key, can only sign a roster (`in_roster` False).

    Raises:
        Refusal: ``site_mismatch``, ``site_not_in_roster``.
        PeerFault: ``envelope_malformed``, ``envelope_kind``, ``signature_invalid``.
    """
    key = own_key(call)
    if in_roster:
        with call.coordinator.database.reading("is the site in the roster") as tx:
            rosters.check_listed(tx, call.site.site, key)
    return statements.open_statement(call.body, kind, call.site.site, key)


def commit(call: Call, name: str, message: SignedMessage, accept: Accept) -> Response:
    """Accept a statement in one transaction, unless these very bytes were accepted before; answer with the receipt.

    The site's status and certificate are checked again inside the transaction (PROTOCOLS C3).
    """
    coordinator = call.coordinator
    try:
        with coordinator.database.transaction(name) as tx:
            sites.check_active(tx, call.site, coordinator.federation, coordinator.clock.now())
            known = statements.find(tx, message)
            if known is None:
                accept(tx, call.site, message)
                known = statements.find(tx, message)
    except MitralError as error:
        if error.code == "seq_reused":
            with coordinator.database.transaction("note a reused number") as tx:
                statements.note_reuse(tx, coordinator.log, call.site.site, coordinator.clock.now())
        raise
    if known is None:
        raise Misuse("statement_lost", f"{name} recorded nothing")
    return JsonAnswer({"receipt": b64u(coordinator.log.receipt(known)), "inclusion": None})
