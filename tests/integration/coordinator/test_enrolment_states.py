"""The table of enrolment states is what the coordinator does: every event in every state, through its routes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.enrolment_states import MEANINGS, REFUSALS, SEEN, TRANSITIONS, Event, State
from shared.canonical import b64u
from shared.crypto import x509
from shared.crypto.signed_envelope import sign_envelope
from shared.errors import MitralError
from shared.protocol.certificates import Renewal
from shared.protocol.enrolment import Invitation
from tests.support.coordinator_scene import InProcess, Scene
from tests.support.fake_site import FakeSite

SITE = "site-e"


class Life:
    """One site on its way through the states."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.site = scene, FakeSite(SITE, InProcess(scene))
        self.invitation: Invitation | None = None

    def admin(self, path: str, body: dict[str, Any]) -> Any:
        return self.scene.operator("POST", f"/v1/sites/{path}", body, role="administrator")

    def invite(self) -> None:
        self.invitation = Invitation.check(self.admin("invitations", {"site": SITE}))

    def request(self) -> None:
        assert self.invitation is not None
        self.site.tls = x509.TlsKey.generate()  # another request than any before
        self.site.enrol(self.invitation)

    def approve(self) -> None:
        self.admin(f"{SITE}/approve", {"fingerprint": self.site.fingerprint or "00000-00000-00000-00000"})
        assert self.site.fetch_certificate()

    def reject(self) -> None:
        self.admin(f"{SITE}/reject", {})

    def renew(self) -> None:
        nonce = json.loads(self.site.call("GET", "/v1/nonce"))["nonce"]
        csr = b64u(x509.make_csr(x509.TlsKey.generate()))
        message = Renewal(v="SA1", kind="renewal", site=SITE, csr=csr, nonce=nonce)
        self.site.call("POST", "/v1/renew-expired", sign_envelope("enrolment", message.as_json(), SITE, self.site.idk))

    def revoke(self) -> None:
        self.admin(f"{SITE}/revoke", {"reason": "test"})

    def do(self, event: Event) -> None:
        getattr(self, event.value)()

    @property
    def state(self) -> str:
        listed = self.scene.operator("GET", "/v1/sites", role="viewer")["sites"]
        return str({one["site"]: one["state"] for one in listed}[SITE])


PATHS: dict[State, tuple[Event, ...]] = {
    State.INVITED: (Event.INVITE,),
    State.PENDING: (Event.INVITE, Event.REQUEST),
    State.APPROVED: (Event.INVITE, Event.REQUEST, Event.APPROVE),
    State.REJECTED: (Event.INVITE, Event.REQUEST, Event.REJECT),
    State.REVOKED: (Event.INVITE, Event.REQUEST, Event.APPROVE, Event.REVOKE),
}
# Where the site is not even known by a key, or is out, the answer is plainer than the table's.
PLAINER = {
    (State.INVITED, Event.RENEW): "site_unknown",
    (State.REVOKED, Event.RENEW): "site_revoked",
}


def code_of(call: Callable[[], None]) -> str | None:
    try:
        call()
    except MitralError as error:
        return error.code
    return None


@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state_does_what_the_table_says(scene: Scene, state: State) -> None:
    for event in Event:
        life = Life(scene)
        with scene.coordinator.database.transaction("forget") as tx:
            tx.run("DELETE FROM site WHERE site = :site", site=SITE)
            tx.run("DELETE FROM invitation WHERE site = :site", site=SITE)
        for step in PATHS[state]:
            life.do(step)
        assert life.state == state
        found = code_of(lambda life=life, event=event: life.do(event))  # type: ignore[misc]
        after = TRANSITIONS.get((state, event))
        if after is None:
            assert found == PLAINER.get((state, event), REFUSALS[event]), f"{event} when {state}"
        else:
            assert found is None, f"{event} when {state}"
        assert life.state == (after or state)


def test_the_table_is_complete() -> None:
    assert set(SEEN) == set(State) == set(PATHS)
    assert set(MEANINGS) == set(REFUSALS) == set(Event)
    assert set(TRANSITIONS.values()) == set(State)
