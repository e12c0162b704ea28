"""The strategies a plan may name, and the check of its ``strategy`` object."""

from decimal import Decimal, InvalidOperation

from shared.canonical import JsonObject
from shared.errors import InputError
from shared.strategies.fedavg import FedAvg
from shared.strategies.strategy import Strategy

STRATEGIES = ("fedavg",)


def check_strategy(strategy: JsonObject) -> JsonObject:
    """Return a ``strategy`` object with every key present.

    Raises:
        InputError: ``strategy_invalid`` names the wrong key.
    """
    name = strategy.get("name", "fedavg")
    if name not in STRATEGIES:
        raise InputError("strategy_invalid", f"name: {str(name)[:40]!r} is not one of {', '.join(STRATEGIES)}")
    unknown = sorted(set(strategy) - {"name", "server_learning_rate"})
    if unknown:
        raise InputError(
            "strategy_invalid", f"{str(unknown[0])[:40]}: {name} has no such key; it has server_learning_rate"
        )
    rate = strategy.get("server_learning_rate", "1")
    try:
        fits = isinstance(rate, str) and 0 < Decimal(rate) <= 100
    except InvalidOperation:
        fits = False
    if not fits:
        raise InputError(
            "strategy_invalid", f"server_learning_rate: {str(rate)[:40]!r} is not a decimal above 0, up to 100"
        )
    return {"name": name, "server_learning_rate": rate}


def build_strategy(strategy: JsonObject) -> Strategy:
    """Return the strategy a plan names.

    Raises:
        InputError: ``strategy_invalid``.
    """
    checked = check_strategy(strategy)
    return FedAvg(server_learning_rate=float(Decimal(checked["server_learning_rate"])))
