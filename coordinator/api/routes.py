"""Every route with its permission and its body limit. A route that is not in this table does not exist."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute

from coordinator.api import (
    accounts,
    audit,
    blobs,
    certificates,
    documents,
    enrolment,
    log,
    oidc,
    operators,
    rosters,
    rounds,
    sites,
    state_resets,
    studies,
    tokens,
    work,
)
from coordinator.api.authentication import check_site, operator_of, site_of
from coordinator.api.bodies import drain, read_body
from coordinator.api.call import Call
from coordinator.api.problems import internal_problem, on_http_error, problem_response
from coordinator.app import Coordinator
from coordinator.operators import actor_of
from coordinator.permissions import Right
from coordinator.rate_limits import Pace
from shared.crypto.signed_envelope import MAX_ENVELOPE_BYTES
from shared.errors import Misuse, MitralError, Refusal
from shared.ids import uuid7

Handler = Callable[[Call], Response] | Callable[[Call], Awaitable[Response]]
Access = Right | Literal["anybody", "site"]
SMALL = 64 * 1024
ENVELOPE = MAX_ENVELOPE_BYTES
SEALED = 2 * MAX_ENVELOPE_BYTES
STREAMED = -1  # the handler reads the body itself, against a limit of its own


@dataclass(frozen=True, slots=True)
class Route:
    """One route: who may call it, and how long its body may be (0: none)."""

    method: str
    path: str
    access: Access
    limit: int
    handler: Handler
    pace: Pace | None = None  # the rate limit of its own; operators also have one over all routes

    @property
    def name(self) -> str:
        """Return method and path, as verbs and log entries name the route."""
        return f"{self.method} {self.path}"


AGENT_ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/enrol", "anybody", SMALL, enrolment.request, "enrol"),
    Route("GET", "/v1/enrol/{request_id}", "anybody", 0, enrolment.poll),
    Route("GET", "/v1/health/live", "anybody", 0, log.live),
    Route("GET", "/v1/openapi.json", "anybody", 0, documents.show),
    Route("GET", "/v1/agent/poll", "site", 0, work.poll),
    Route("GET", "/v1/blobs/{sha256}", "site", 0, blobs.get_for_site),
    Route("GET", "/v1/rosters/{version}", "site", 0, rosters.get),
    Route("PUT", "/v1/rosters/{version}/approvals/{site}", "site", SMALL, rosters.approve, "approval"),
    Route("PUT", "/v1/studies/{study}/approvals/{site}", "site", SMALL, studies.approve, "approval"),
    Route("PUT", "/v1/studies/{study}/pairings/{site}", "site", ENVELOPE, studies.put_pairing),
    Route("GET", "/v1/studies/{study}/outcomes", "site", 0, studies.outcomes),
    Route("GET", "/v1/rounds/{ctx_hash}/uploads/{site}", "site", 0, rounds.get_chunks),
    Route("PUT", "/v1/rounds/{ctx_hash}/uploads/{site}/{chunk}", "site", STREAMED, rounds.put_chunk),
    Route("PUT", "/v1/rounds/{ctx_hash}/shares/{site}", "site", STREAMED, rounds.put_shares),
    Route("PUT", "/v1/rounds/{ctx_hash}/manifest/{site}", "site", ENVELOPE, rounds.put_manifest),
    Route("PUT", "/v1/rounds/{ctx_hash}/refusal/{site}", "site", SMALL, rounds.put_refusal),
    Route("PUT", "/v1/rounds/{ctx_hash}/decision/{site}", "site", ENVELOPE, rounds.put_decision),
    Route("GET", "/v1/rounds/{ctx_hash}/unmask-request/{site}", "site", 0, rounds.get_unmask_request),
    Route("PUT", "/v1/rounds/{ctx_hash}/unmask/{site}", "site", SEALED, rounds.put_unmask),
    Route("PUT", "/v1/rounds/{ctx_hash}/attestation/{site}", "site", SMALL, rounds.put_attestation),
    Route("PUT", "/v1/complaints/{site}/{digest}", "site", SMALL, rounds.put_complaint, "complaint"),
    Route("GET", "/v1/log/checkpoint", "site", 0, log.checkpoint),
    Route("GET", "/v1/log/entries/{start}/{end}", "site", 0, log.entries),
    Route("GET", "/v1/log/cosignatures", "site", 0, log.cosignatures),
    Route("PUT", "/v1/log/cosignatures/{size}/{site}", "site", SMALL, log.put_cosignature),
    Route("GET", "/v1/statements/{site}", "site", 0, state_resets.last_accepted),
    Route("PUT", "/v1/state-resets/{site}", "site", SMALL, state_resets.reset),
    Route("GET", "/v1/nonce", "anybody", 0, certificates.nonce),
    Route("POST", "/v1/renew", "site", SMALL, certificates.renew),
    Route("POST", "/v1/renew-expired", "anybody", SMALL, certificates.renew_expired),
    Route("POST", "/v1/revoke", "anybody", SMALL, certificates.revoke),
)
OPERATOR_ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health/live", "anybody", 0, log.live),
    Route("GET", "/v1/health/ready", "anybody", 0, log.ready),
    Route("GET", "/v1/openapi.json", "anybody", 0, documents.show),
    Route("POST", "/v1/account/setup", "anybody", SMALL, accounts.set_up, "login"),
    Route("POST", "/v1/account/confirm", "anybody", SMALL, accounts.confirm, "login"),
    Route("POST", "/v1/login", "anybody", SMALL, accounts.login, "login"),
    Route("GET", "/v1/oidc/login", "anybody", 0, oidc.start, "login"),
    Route("GET", "/v1/oidc/callback", "anybody", 0, oidc.finish, "login"),
    Route("POST", "/v1/logout", "account.use", SMALL, accounts.logout),
    Route("POST", "/v1/account/link", "account.use", SMALL, accounts.renew),
    Route("GET", "/v1/whoami", "account.use", 0, operators.whoami),
    Route("GET", "/v1/sites", "sites.read", 0, sites.index),
    Route("POST", "/v1/sites/invitations", "sites.write", SMALL, sites.invite),
    Route("POST", "/v1/sites/{site}/approve", "sites.write", SMALL, sites.approve),
    Route("POST", "/v1/sites/{site}/reject", "sites.write", SMALL, sites.reject),
    Route("POST", "/v1/sites/{site}/revoke", "sites.write", SMALL, sites.revoke),
    Route("POST", "/v1/sites/{site}/readmit", "sites.write", SMALL, sites.readmit),
    Route("GET", "/v1/rosters", "rosters.read", 0, rosters.index),
    Route("GET", "/v1/rosters/{version}", "rosters.read", 0, rosters.get),
    Route("POST", "/v1/rosters", "rosters.write", SMALL, rosters.propose),
    Route("GET", "/v1/operators", "operators.read", 0, operators.index),
    Route("POST", "/v1/operators", "operators.write", SMALL, operators.add),
    Route("POST", "/v1/operators/{operator}/link", "operators.grant", SMALL, accounts.invite),
    Route("POST", "/v1/operators/{operator}/identity", "operators.grant", SMALL, oidc.bind),
    Route("POST", "/v1/operators/{operator}/role", "operators.grant", SMALL, operators.change),
    Route("DELETE", "/v1/operators/{operator}", "operators.write", 0, operators.remove),
    Route("GET", "/v1/tokens", "tokens.read", 0, tokens.index),
    Route("POST", "/v1/tokens", "tokens.write", SMALL, tokens.issue),
    Route("DELETE", "/v1/tokens/{token}", "tokens.write", 0, tokens.revoke),
    Route("PUT", "/v1/blobs/{sha256}", "blobs.write", STREAMED, blobs.put),
    Route("GET", "/v1/blobs/{sha256}", "blobs.read", 0, blobs.get_for_operator),
    Route("POST", "/v1/studies", "studies.run", 2**20, studies.submit),
    Route("GET", "/v1/studies", "studies.read", 0, studies.index),
    Route("GET", "/v1/studies/{study}", "studies.read", 0, studies.get),
    Route("GET", "/v1/studies/{study}/watch", "studies.read", 0, studies.watch),
    Route("POST", "/v1/studies/{study}/{verb}", "studies.run", SMALL, studies.command),
    Route("GET", "/v1/audit/checkpoint", "studies.read", 0, log.checkpoint),
    Route("GET", "/v1/audit/witnesses", "studies.read", 0, log.witnesses),
    Route("GET", "/v1/audit/export", "audit.read", 0, audit.export),
    Route("POST", "/v1/audit/erasures", "audit.erase", SMALL, audit.erase_disclosure),
)


def build_app(coordinator: Coordinator, routes: tuple[Route, ...]) -> FastAPI:
    """Return the application of one listener."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.routes.clear()
    title = "Mitral: agents" if routes is AGENT_ROUTES else "Mitral: operators"
    app.state.document = documents.build_document(title, routes)
    for route in routes:
        app.router.routes.append(
            HttpRoute(route.path, _endpoint(coordinator, route), methods=[route.method], include_in_schema=False)
        )
    app.add_exception_handler(HTTPException, on_http_error)
    return app


def _endpoint(coordinator: Coordinator, route: Route) -> Callable[[Request], Awaitable[Response]]:
    is_async = inspect.iscoroutinefunction(route.handler)

    def handle(call: Call) -> Response:
        _authenticate(call, route)
        answer: Response = route.handler(call)  # type: ignore[assignment]  # only plain handlers come here
        return answer

    async def endpoint(request: Request) -> Response:
        call = Call(coordinator, request)
        request_id = uuid7(int(coordinator.clock.now().timestamp() * 1000))
        try:
            if route.access == "site":
                call.site_principal = site_of(request)  # without a certificate nothing of the body is read
            if route.limit != STREAMED:
                call.body = await read_body(request, route.limit)
            if not is_async:
                return await run_in_threadpool(handle, call)
            await run_in_threadpool(_authenticate, call, route)
            answer: Response = await route.handler(call)  # type: ignore[misc]  # async by the check above
        except Misuse as error:
            return internal_problem(error, request_id, route.path)
        except MitralError as error:
            await drain(request)
            await run_in_threadpool(_note_denial, call, error, route)
            return problem_response(error, request_id)
        except Exception as error:  # noqa: BLE001 (the edge: whatever it is becomes a problem with a request id)
            return internal_problem(error, request_id, route.path)
        return answer

    return endpoint


def _note_denial(call: Call, error: MitralError, route: Route) -> None:
    actor = None
    if call.site_principal is not None:
        actor = call.site_principal.actor
    elif call.operator_principal is not None:
        actor = actor_of(call.operator_principal)
    try:
        call.coordinator.denials.note(
            error, actor, route.access, route.name, call.address, call.coordinator.clock.now()
        )
    except MitralError:
        return  # a full disk must not hide the answer


def _authenticate(call: Call, route: Route) -> None:
    coordinator, now = call.coordinator, call.coordinator.clock.now()
    caller = call.address
    if route.access == "site":
        check_site(coordinator, call.site)
        caller = call.site.site
    elif route.access != "anybody":
        try:
            call.operator_principal = operator_of(coordinator, call.request)
        except Refusal:
            coordinator.limits.take("stranger", caller, now)
            raise
        caller = call.operator.operator
        coordinator.limits.take("operator", caller, now)
        call.operator.check(route.access)
    if route.pace is not None:
        coordinator.limits.take(route.pace, caller, now)
