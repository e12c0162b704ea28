"""``/v1/enrol``: the only agent routes without a client certificate."""

from starlette.responses import Response

from coordinator import enrolment
from coordinator.api.authentication import dsse_credential
from coordinator.api.call import Call, JsonAnswer
from shared.canonical import from_b64u
from shared.errors import MitralError
from shared.protocol.enrolment import EnrolmentPending, EnrolmentRequest


def request(call: Call) -> Response:
    """Take an enrolment request."""
    coordinator = call.coordinator
    message = EnrolmentRequest.parse(call.body)
    try:
        with coordinator.database.transaction("take an enrolment request") as tx:
            pending = enrolment.request(tx, coordinator.log, coordinator.keys, message, coordinator.clock.now())
            tx.touch("operators")
    except MitralError as error:
        if error.code == "enrolment_token_used":
            with coordinator.database.transaction("note a reused token") as tx:
                enrolment.note_reuse(tx, coordinator.log, message.token, coordinator.clock.now())
        raise
    return _answer(pending)


def poll(call: Call) -> Response:
    """Answer a site that waits for its certificate."""
    coordinator = call.coordinator
    envelope = from_b64u(dsse_credential(call.request))
    with coordinator.database.reading("answer an enrolment") as tx:
        answer = enrolment.answer_poll(
            tx,
            coordinator.keys,
            coordinator.log.vkey.encode(),
            coordinator.federation,
            call.path["request_id"],
            envelope,
        )
    return _answer(answer) if isinstance(answer, EnrolmentPending) else JsonAnswer(answer.as_json())


def _answer(pending: EnrolmentPending) -> Response:
    answer = JsonAnswer(pending.as_json(), 202)
    answer.headers["Retry-After"] = str(pending.retry_after_seconds)
    return answer
