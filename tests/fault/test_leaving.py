"""A hospital takes itself out, and comes back under its old identity or under a new one (PROTOCOLS C2, C3)."""

import os

import pytest

from shared.canonical import from_b64u
from shared.crypto.identity import SigningKey
from shared.errors import InputError, MitralError
from shared.protocol.certificates import SelfRevocation
from shared.protocol.enrolment import Invitation
from site_agent import revocation
from site_agent.enrolment import ask_for_certificate, prepare_request, send_request
from site_agent.identity import read_identity
from site_agent.storage.database import Database
from tests.fault.simulated_site import SimulatedSite
from tests.fault.simulation import Simulation, simulation
from tests.fault.test_renewal import poll
from tests.fault.test_rollback import check_sums, entries, go_on


def leave(site: SimulatedSite) -> None:
    revocation.revoke(site.database, site.session.identity, site.session.client, "leaving")


def invite_again(made: Simulation, site: SimulatedSite) -> None:
    """Take a state directory through an invitation to a certificate."""
    site.close()
    database = Database(site.folder.database, site.folder.kek(None))
    client = site._client()
    raw = made.scene.operator("POST", "/v1/sites/invitations", {"site": site.name}, role="administrator")
    stored = prepare_request(database, Invitation.check(raw), "", os.urandom, again=True)
    send_request(database, client)
    body = {"fingerprint": stored.fingerprint}
    made.scene.operator("POST", f"/v1/sites/{site.name}/approve", body, role="administrator")
    assert ask_for_certificate(database, client, made.now())
    database.close()
    site.start()


def test_a_site_that_takes_itself_out_is_out_at_once_and_says_why_in_the_log() -> None:
    with simulation(4, updates=3) as made:
        site = made.sites["site-d"]
        site.work()
        leave(site)
        assert poll(site) == "site_revoked"
        entry = entries(made, "cert.revoked")[0]
        assert (entry["data"]["site"], entry["data"]["reason"]) == ("site-d", "leaving")
        assert (entry["actor"]["id"], entry["actor"]["authn"]) == ("site-d", "idk")
        assert entry["evidence"], "its own signature says that it went by itself"
        with site.database.reading("look") as tx, pytest.raises(InputError, match=r"^not_enrolled:.*took itself out"):
            read_identity(tx)
        site.is_away = True
        go_on(made, 2, seconds=20)
        published = [one for one in made.rounds() if one.state == "PUBLISHED"]
        assert "site-d" not in published[-1].survivors


def test_it_needs_the_identity_key_and_nothing_else() -> None:
    """A thief of the TLS key may have renewed the certificate: the site shuts it out all the same."""
    with simulation(4) as made:
        site = made.sites["site-d"]
        site.certificate = None
        leave(site)
        assert [entry["data"]["site"] for entry in entries(made, "cert.revoked")] == ["site-d"]


def test_nobody_else_can_take_a_site_out_and_an_old_word_counts_once() -> None:
    from shared.crypto.signed_envelope import sign_envelope

    with simulation(4) as made:
        site, other = made.sites["site-d"], made.sites["site-a"]
        client = other.session.client

        def send(key: SigningKey, nonce: str, signer: str = "site-d") -> str | None:
            word = SelfRevocation(v="SA1", kind="revocation", site="site-d", reason="unspecified", nonce=nonce)
            envelope = sign_envelope("enrolment", word.as_json(), signer, key)
            try:
                client.request("POST", "/v1/revoke", body=envelope)
            except MitralError as error:
                return error.code
            return None

        def nonce() -> str:
            return str(client.request("GET", "/v1/nonce").json()["nonce"])

        own, foreign = site.session.identity.idk, other.session.identity.idk
        assert send(foreign, nonce()) == "signature_invalid"
        assert send(foreign, nonce(), signer="site-a") == "site_mismatch"
        assert send(own, "AAAA") == "nonce_invalid"
        once = nonce()
        made.advance(301)
        assert send(own, once) == "nonce_invalid"
        assert entries(made, "cert.revoked") == []
        once = nonce()
        assert send(own, once) is None
        invite_again(made, site)
        assert send(own, once) == "nonce_invalid", "a word of before it came back"
        assert poll(site) in {None, "instance_conflict"}


def test_it_comes_back_under_its_identity_and_its_chain_goes_on() -> None:
    with simulation(4, updates=4) as made:
        site = made.sites["site-d"]
        go_on(made, 1)
        signed = site.query("SELECT MAX(seq) AS seq FROM signed_message")[0].seq
        idk = site.session.identity.idk.verify_key
        leave(site)
        invite_again(made, site)
        assert site.session.identity.idk.verify_key == idk
        go_on(made, 3)
        assert site.query("SELECT MAX(seq) AS seq FROM signed_message")[0].seq > signed
        assert "site-d" in [one for one in made.rounds() if one.state == "PUBLISHED"][-1].survivors
        assert entries(made, "state.reset") == []
        check_sums(made)


def test_a_new_identity_under_an_old_name_goes_on_behind_the_old_numbers_and_waits_for_a_roster() -> None:
    with simulation(4, updates=4) as made:
        site = made.sites["site-d"]
        go_on(made, 1)
        signed = site.query("SELECT MAX(seq) AS seq FROM signed_message")[0].seq
        leave(site)
        site.close()
        for path in (site.folder.database, *site.folder.root.glob("state.db-*")):
            path.unlink(missing_ok=True)
        site.folder.prepare()
        database = Database(site.folder.database, site.folder.kek(None))
        from site_agent.storage.schema import migrate

        migrate(database)
        database.close()
        site.start = lambda: SimulatedSite.start(site)  # type: ignore[method-assign]
        site.database = Database(site.folder.database, site.folder.kek(None))
        invite_again(made, site)
        assert poll(site) is None
        assert site.query("SELECT seq FROM signed_message") != []
        assert site.query("SELECT MAX(seq) AS seq FROM signed_message")[0].seq == signed
        items = site.query("SELECT item FROM released_item")
        assert items, "what was sealed under the old identity is not sealed again"
        with made.reading() as tx:
            from coordinator.storage import rosters

            active = rosters.read_active(tx)
        assert active is not None
        pinned = {entry["id"]: from_b64u(entry["idk"]) for entry in active.roster["sites"]}
        assert pinned["site-d"] != site.session.identity.idk.verify_key.bytes
        go_on(made, 3, seconds=20)
        published = [one for one in made.rounds() if one.state == "PUBLISHED"]
        assert "site-d" not in published[-1].survivors, "the others would not believe its signature"
