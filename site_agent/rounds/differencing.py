"""Whether this sum, beside an earlier one, singles this hospital out (PROTOCOLS A12, A13 row 22; ADR 0007)."""

from collections.abc import Sequence
from datetime import datetime

from shared.clock import timestamp
from shared.protocol.round_context import Context
from shared.secagg.differencing import set_apart
from site_agent.storage import notices, outcomes
from site_agent.storage.database import Transaction


def note_differencing(tx: Transaction, site: str, ctx: Context, survivors: Sequence[str], now: datetime) -> None:
    """Tell the hospital when an update sum and an earlier one differ by its own update alone.

    Earlier ones are those this site saw published, and those it signed the survivors of: a round that is called lost
    may have been opened all the same.
    """
    if ctx.kind != "update":
        return
    for number, before in outcomes.read_last_sums(tx, ctx.study, but=ctx.ctx_hash):
        if set_apart(before, survivors) == site:
            detail = f"the sums of rounds {number} and {ctx.round} differ by this hospital's update alone"
            notices.add_notice(tx, "cohort_differs_by_this_site", ctx.study, detail, timestamp(now))
