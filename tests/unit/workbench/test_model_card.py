"""Fetching a model: the bytes have the digest the study names, and the card says where they come from."""

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from shared.canonical import sha256_hex
from shared.crypto.secret import Secret
from shared.crypto.x509 import create_authority
from shared.errors import InputError, PeerFault, Unavailable
from shared.protocol.study import StudyView
from workbench.access import Access
from workbench.client import CoordinatorClient
from workbench.model_card import CARD_FILE, MODEL_FILE, fetch_model
from workbench.study_file import read_study

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ROOT = create_authority("valve", NOW).root.cert_der
MODEL = b"weights of the best version"
STUDY_FILE = b"""
study: heart-1
title: Heart disease
purpose: Tell narrowed vessels from healthy ones
federation: valve
sites: [a, b, c]
not_after: 2027-06-30
task: {name: tabular, features: [age], label: target}
"""
PLAN = read_study(STUDY_FILE, "study.yaml", NOW).plan("ab" * 32, 2)
CHECKPOINT = "valve/log/1\n7\nAAAA\n\n"


def view(best: str | None) -> StudyView:
    one = {
        "study": "heart-1",
        "index": 1,
        "kind": "update",
        "round": 1,
        "ctx_hash": "cd" * 32,
        "state": "PUBLISHED",
        "reason": None,
        "invited": ["a", "b", "c"],
        "uploaded": ["a", "b", "c"],
        "refused": {},
        "survivors": ["a", "b", "c"],
        "opened_at": "2026-11-21T10:00:00.000Z",
        "closed_at": "2026-11-21T10:00:01.000Z",
        "published_at": "2026-11-21T10:00:02.000Z",
        "upload_bytes": {"a": 9},
        "model": "ab" * 32,
        "result_model": best,
        "metrics": None,
    }
    return StudyView.check(
        {
            "study": "heart-1",
            "title": "Heart disease",
            "plan": PLAN.plan_hash,
            "state": "finished" if best else "running",
            "reason": None,
            "sites": ["a", "b", "c"],
            "approved_by": ["a", "b", "c"],
            "model": best or "ab" * 32,
            "best_model": best,
            "best_round": 1 if best else None,
            "best_metrics": {"auc": "0.9"} if best else None,
            "test_metrics": {"auc": "0.91"} if best else None,
            "rounds": [one],
        }
    )


def client_of(blobs: dict[str, bytes], best: str | None) -> CoordinatorClient:
    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/studies/heart-1":
            return httpx.Response(200, json=view(best).as_json())
        if path == "/v1/audit/checkpoint":
            return httpx.Response(200, text=CHECKPOINT)
        return httpx.Response(200, content=blobs[path.rpartition("/")[2]])

    access = Access("https://127.0.0.1:1", ROOT, "ann", "researcher", Secret(b"MT1-x"))
    return CoordinatorClient(access, httpx.MockTransport(handler))


def test_the_model_and_its_card_are_saved(tmp_path: Path) -> None:
    digest = sha256_hex(MODEL)
    with client_of({digest: MODEL, PLAN.plan_hash: PLAN.canonical()}, digest) as client:
        card = fetch_model(client, "heart-1", tmp_path / "out")
    assert (tmp_path / "out" / MODEL_FILE).read_bytes() == MODEL
    assert json.loads((tmp_path / "out" / CARD_FILE).read_text()) == card
    assert card["model"]["digest"] == digest
    assert card["metrics"]["test"] == {"auc": "0.91"}
    assert card["provenance"]["plan"] == PLAN.plan_hash
    assert card["provenance"]["sites"] == ["a", "b", "c"]
    assert card["provenance"]["rounds"][0]["ctx_hash"] == "cd" * 32
    assert card["provenance"]["log_checkpoint"] == CHECKPOINT
    assert "3 or more hospitals" in card["privacy"]["secure_aggregation"]
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_bytes_with_another_digest_are_not_saved(tmp_path: Path) -> None:
    digest = sha256_hex(MODEL)
    blobs = {digest: MODEL + b"!", PLAN.plan_hash: PLAN.canonical()}
    with client_of(blobs, digest) as client, pytest.raises(PeerFault) as caught:
        fetch_model(client, "heart-1", tmp_path / "out")
    assert caught.value.code == "blob_damaged"
    assert not (tmp_path / "out").exists()


def test_a_study_without_a_finished_round_has_nothing_to_fetch(tmp_path: Path) -> None:
    with client_of({}, None) as client, pytest.raises(Unavailable) as caught:
        fetch_model(client, "heart-1", tmp_path / "out")
    assert caught.value.code == "model_version_missing"


def test_the_root_certificate_is_the_only_one_trusted() -> None:
    access = Access("https://127.0.0.1:1", b"not a certificate", "ann", "researcher", Secret(b"MT1-x"))
    with pytest.raises(InputError, match="root certificate"):
        CoordinatorClient(access)
