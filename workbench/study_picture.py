"""A study as tables for a terminal: what each site does, and the last rounds. Fits 80 columns and needs no colours."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.canonical import JsonObject
from shared.protocol.study import RoundView, StudyView

ENDED = frozenset({"finished", "stopped"})
LAST_ROUNDS = 10


def study_picture(view: StudyView, sites: JsonObject, last_rounds: int = LAST_ROUNDS) -> RenderableType:
    """Return a study's state, one row per site, and one row per round of the last few."""
    head = Text(f"{view.study}: {view.state}" + (f" ({view.reason})" if view.reason else ""), style="bold")
    states = plain_table("site", "approved", "online", "doing", "masked bytes sent")
    for site in view.sites:
        now = sites.get(site, {})
        approved, online = "yes" if site in view.approved_by else "no", "yes" if now.get("online") else "no"
        states.add_row(site, approved, online, str(now.get("doing", "")), f"{masked_bytes(view, site):,}")
    rounds = plain_table("round", "state", "uploaded", "survivors", "AUC of received model")
    for one in view.rounds[-last_rounds:]:
        uploaded, survivors = f"{len(one.uploaded)}/{len(one.invited)}", str(len(one.survivors) or "")
        rounds.add_row(round_name(one), one.state, uploaded, survivors, metric_text(one.metrics, "auc"))
    best = f"best: round {view.best_round}, AUC {metric_text(view.best_metrics, 'auc')}" if view.best_model else ""
    return Group(head, states, Text(""), rounds, Text(best))


def plain_table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """Return a table without lines, whose columns named in `right` hold numbers."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def masked_bytes(view: StudyView, site: str) -> int:
    """Return how many masked bytes the coordinator received from a site in this study."""
    return sum(one.upload_bytes.get(site, 0) for one in view.rounds)


def round_name(one: RoundView) -> str:
    """Return what people call a context: "3", or "statistics 1"."""
    return str(one.round) if one.kind == "update" else f"{one.kind} {one.round}"


def round_line(one: RoundView) -> str:
    """Return a round as one line."""
    auc = metric_text(one.metrics, "auc")
    return (
        f"round {round_name(one)}: {one.state}, {len(one.uploaded)}/{len(one.invited)} uploaded"
        + (f", survivors {', '.join(one.survivors)}" if one.survivors else "")
        + (f", AUC of received model {auc}" if auc else "")
        + (f", {one.reason}" if one.reason else "")
    )


def metric_text(metrics: JsonObject | None, name: str) -> str:
    """Return a metric rounded to four places, or an empty text when there is none."""
    value = (metrics or {}).get(name)
    return "" if value is None else f"{float(value):.4f}"
