"""What the proposed studies of the demo data sets have in common."""

from typing import Any

from shared.canonical import JsonObject


def settings(**changes: Any) -> JsonObject:  # noqa: ANN401 (sections of a study protocol are JSON)
    """Return sections of a study protocol; a keyword replaces keys of its section."""
    value: JsonObject = {
        "task": {},
        "preprocessing": {"normalise": "federated"},
        "training": {
            "rounds": 20,
            "local_epochs": 1,
            "batch_size": 0,
            "optimizer": "sgd",
            "learning_rate": "0.1",
            "momentum": "0",
            "weight_decay": "0",
            "seed": 7,
            "augmentation": [],
        },
        "strategy": {"name": "fedavg", "server_learning_rate": "1"},
        "secure_aggregation": {
            "b": 24,
            "q": 20,
            "w_cap": 1000,
            "clip": {"default": "1", "tensors": {}},
            "least_survivors": None,
        },
        "deadlines": {"upload_seconds": 600, "grace_seconds": 15, "expire_seconds": 1800},
        "selection": {"metric": "auc", "patience": 0, "min_delta": "0.0005"},
        "metrics": {"bins": 64},
    }
    for section, change in changes.items():
        value[section] = {**value[section], **change}
    return value
