"""The OpenAPI documents are true: Schemathesis throws what they allow, and what they forbid, at both real listeners."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from coordinator.api.documents import ANSWERS, BODIES, QUERIES, build_document
from coordinator.api.routes import AGENT_ROUTES, OPERATOR_ROUTES, STREAMED
from shared.crypto import x509
from shared.crypto.secret import Secret
from tests.support.coordinator_scene import Scene
from tests.support.coordinator_service import Service, fixed_access

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENTS = {"agents": build_document("x", AGENT_ROUTES), "operators": build_document("x", OPERATOR_ROUTES)}
FEW = settings(
    max_examples=6,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def operations(plane: str) -> list[Any]:
    return operations_of(DOCUMENTS[plane])


def operations_of(document: dict[str, Any]) -> list[Any]:
    found: list[Any] = list(schemathesis.openapi.from_dict(document).get_all_operations())
    return [one.ok() for one in found]


def modes(plane: str) -> list[Any]:
    """Return each operation with what the document allows, and where it can be told with what it forbids."""
    found = []
    for operation in operations(plane):
        document = DOCUMENTS[plane]["paths"][operation.path][operation.method]
        bodies = [one["schema"] for one in document.get("requestBody", {}).get("content", {}).values()]
        strict = bool(document["parameters"]) or any(one.get("required") or "$ref" in one for one in bodies)
        chosen = list(GenerationMode) if strict else [GenerationMode.POSITIVE]
        found += [pytest.param(operation, mode, id=f"{operation.label} {mode.value}") for mode in chosen]
    return found


class Caller:
    """What requests have to carry on each plane."""

    def __init__(self, service: Service, scene: Scene, folder: Path) -> None:
        fixed_access(service)
        self.tokens = scene.tokens
        self.urls = {
            "agents": f"https://127.0.0.1:{service.settings.agent_port}",
            "operators": f"https://127.0.0.1:{service.settings.operator_port}",
        }
        self.root, self.certificate, self.key = (folder / name for name in ("root.pem", "site.pem", "key.pem"))
        self.root.write_bytes(x509.pem(service.root))
        site = service.sites["site-a"]
        self.certificate.write_bytes(x509.pem(*site.chain))
        password = Secret(os.urandom(16).hex().encode())
        sealed = site.tls.to_encrypted_pem(password)
        key = serialization.load_pem_private_key(sealed, password.reveal())
        form = serialization.PrivateFormat.PKCS8
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))

    def send(self, plane: str, case: Any, role: str | None) -> None:
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        cert = (str(self.certificate), str(self.key)) if plane == "agents" else None
        case.call_and_validate(
            base_url=self.urls[plane], headers=headers, verify=str(self.root), cert=cert, checks=CHECKS, timeout=30
        )


@pytest.fixture(scope="module")
def caller(prepared: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    scene = prepared.copy_to(Path(tmp_path_factory.mktemp("openapi")))
    scene.start(scene.submit())
    scene.close()
    service = Service(scene.state, scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MITRAL_COORDINATOR_POLL_SECONDS", "0.05")
        service.start()
    yield Caller(service, scene, Path(tmp_path_factory.mktemp("tls")))
    service.stop()
    service.transport.close()


@pytest.mark.parametrize(("operation", "mode"), modes("agents"))
def test_the_agents_listener(caller: Caller, operation: Any, mode: GenerationMode) -> None:
    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def throw(case: Any) -> None:
        caller.send("agents", case, None)

    throw()


@pytest.mark.parametrize("role", ["administrator", "researcher", None])
@pytest.mark.parametrize(("operation", "mode"), modes("operators"))
def test_the_operators_listener(caller: Caller, operation: Any, mode: GenerationMode, role: str | None) -> None:
    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def throw(case: Any) -> None:
        caller.send("operators", case, role)

    throw()


def test_an_undocumented_status_would_be_noticed(caller: Caller) -> None:
    document = copy.deepcopy(DOCUMENTS["operators"])
    document["paths"] = {"/v1/whoami": document["paths"]["/v1/whoami"]}
    del document["paths"]["/v1/whoami"]["get"]["responses"]["401"]
    (found,) = operations_of(document)
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        caller.send("operators", found.Case(), None)


def test_the_listeners_serve_the_documents_that_are_tested(scene: Scene) -> None:
    assert scene.operator("GET", "/v1/openapi.json")["paths"].keys() == DOCUMENTS["operators"]["paths"].keys()


def test_the_tables_speak_of_routes_that_exist_and_leave_no_body_out() -> None:
    routes = {route.name: route for route in (*AGENT_ROUTES, *OPERATOR_ROUTES)}
    assert {*ANSWERS, *BODIES, *QUERIES} <= set(routes)
    bodies = {route.name for route in OPERATOR_ROUTES if route.limit not in {0, STREAMED}}
    assert bodies <= set(BODIES), "what an operator may send is written down for every route"
