"""A hospital takes itself out: one signed word, in force at the coordinator at once (PROTOCOLS C3)."""

from typing import Literal

from shared.crypto.signed_envelope import sign_envelope
from shared.errors import Refusal
from shared.protocol.certificates import Nonce, SelfRevocation
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import SiteIdentity
from site_agent.storage import enrolment
from site_agent.storage.database import Database

Reason = Literal["compromised", "leaving", "unspecified"]


def revoke(database: Database, identity: SiteIdentity, client: CoordinatorClient, reason: Reason) -> None:
    """Tell the coordinator not to believe this site any more, and remember here that it is out.

    It needs the identity key only: a certificate that ran out, or that somebody else renewed, does not matter.

    Raises:
        Retry: the coordinator cannot be reached; nothing was changed. Call it by telephone.
        Refusal: ``nonce_invalid``.
    """
    nonce = Nonce.check(client.request("GET", "/v1/nonce").json()).nonce
    message = SelfRevocation(v="SA1", kind="revocation", site=identity.site, reason=reason, nonce=nonce)
    envelope = sign_envelope("enrolment", message.as_json(), identity.site, identity.idk)
    try:
        client.request("POST", "/v1/revoke", body=envelope, headers={"Content-Type": "application/json"})
    except Refusal as error:
        if error.code != "site_revoked":
            raise
    with database.transaction("site revoked") as tx:
        enrolment.set_revoked(tx)
