"""A small valid study protocol, to be changed where a test needs it otherwise."""

from typing import Any

from shared.protocol.study import Plan

TABULAR: dict[str, Any] = {
    "name": "tabular",
    "features": ["age", "pressure"],
    "label": "outcome",
    "classes": 2,
    "model": {"name": "logistic_regression"},
}
IMAGES: dict[str, Any] = {
    "name": "image_classification",
    "image_size": 28,
    "channels": 1,
    "classes": 2,
    "model": {"name": "small_cnn"},
}


def plan_with(**changes: Any) -> Plan:
    """Return a plan; a keyword replaces a key, and a mapping for a section replaces only the keys it has."""
    value: dict[str, Any] = {
        "v": "SA1",
        "kind": "study",
        "study": "study-1",
        "title": "A study",
        "purpose": "To test",
        "federation": "federation-1",
        "sites": ["site-a", "site-b", "site-c"],
        "task": TABULAR,
        "preprocessing": {"normalise": "federated"},
        "training": {
            "rounds": 3,
            "local_epochs": 1,
            "batch_size": 0,
            "optimizer": "sgd",
            "learning_rate": "0.5",
            "momentum": "0",
            "weight_decay": "0",
            "seed": 7,
            "augmentation": [],
        },
        "strategy": {"name": "fedavg", "server_learning_rate": "1"},
        "secure_aggregation": {"b": 24, "q": 16, "w_cap": 1000, "clip": {"default": "1"}, "least_survivors": None},
        "selection": {"metric": "auc", "patience": 0, "min_delta": "0.0005"},
        "metrics": {"bins": 64},
        "deadlines": {"upload_seconds": 60, "grace_seconds": 5, "expire_seconds": 600},
        "dp": None,
        "initial_model": "0" * 64,
        "dimension": 3,
        "not_after": "2030-01-01T00:00:00Z",
    }
    for key, change in changes.items():
        whole = key not in {"training", "strategy", "secure_aggregation", "selection", "deadlines"}
        value[key] = change if whole else {**value[key], **change}
    return Plan.check(value)
