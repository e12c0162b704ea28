"""`mitral study watch`: a live view in a terminal, one plain line per change elsewhere."""

import sys
import time
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shared.canonical import JsonObject
from shared.errors import Unavailable
from shared.protocol.study import RoundView, StudyView
from workbench.cli import output
from workbench.client import POLL_SECONDS, CoordinatorClient

ENDED = {"finished", "stopped"}
_LAST_ROUNDS = 12
_MOST_RETRIES = 20


def follow(client: CoordinatorClient, study: str, *, as_json: bool, once: bool) -> StudyView:
    """Show a study until it ends (or once) and return its last state.

    Raises:
        Unavailable: the coordinator was away for longer than a few minutes.
    """
    if as_json:
        return _poll(client, study, _print_json, once=once)
    if sys.stdout.isatty() and not once:
        with Live(console=output.console(), refresh_per_second=4) as live:
            return _poll(client, study, lambda view, sites: live.update(picture(view, sites)), once=once)
    shown: dict[str, str] = {}
    return _poll(client, study, lambda view, sites: _print_new(view, sites, shown), once=once)


def _poll(
    client: CoordinatorClient, study: str, show: Callable[[StudyView, JsonObject], None], *, once: bool
) -> StudyView:
    cursor, failures = "", 0
    while True:
        try:
            cursor, view, sites = client.watch(study, cursor, 0 if once else POLL_SECONDS)
        except Unavailable as error:
            failures += 1
            if once or failures > _MOST_RETRIES:
                raise
            output.remark(f"{error.detail}; trying again")
            time.sleep(min(2.0**failures / 4, 15))
            continue
        failures = 0
        show(view, sites)
        if once or view.state in ENDED:
            return view


def picture(view: StudyView, sites: JsonObject) -> RenderableType:
    """Return the live view: the study, what each site does, and the last rounds; fits 80 columns."""
    head = Text(f"{view.study}: {view.state}" + (f" ({view.reason})" if view.reason else ""), style="bold")
    states = Table(box=None, pad_edge=False)
    for column in ("site", "approved", "online", "doing"):
        states.add_column(column)
    for site in view.sites:
        now = sites.get(site, {})
        approved, online = "yes" if site in view.approved_by else "no", "yes" if now.get("online") else "no"
        states.add_row(site, approved, online, str(now.get("doing", "")))
    rounds = Table(box=None, pad_edge=False)
    for column in ("round", "state", "uploaded", "survivors", "AUC received"):
        rounds.add_column(column)
    for one in view.rounds[-_LAST_ROUNDS:]:
        uploaded, survivors = f"{len(one.uploaded)}/{len(one.invited)}", str(len(one.survivors) or "")
        rounds.add_row(round_name(one), one.state, uploaded, survivors, metric_text(one.metrics, "auc"))
    best = Text(
        f"best: round {view.best_round}, AUC {metric_text(view.best_metrics, 'auc')}" if view.best_model else ""
    )
    return Group(head, states, Text(""), rounds, best)


def round_name(one: RoundView) -> str:
    """Return what people call a context: "3", or "statistics 1"."""
    return str(one.round) if one.kind == "update" else f"{one.kind} {one.round}"


def metric_text(metrics: JsonObject | None, name: str) -> str:
    """Return a metric rounded to four places, or an empty text when there is none."""
    value = (metrics or {}).get(name)
    return "" if value is None else f"{float(value):.4f}"


def _print_json(view: StudyView, sites: JsonObject) -> None:
    import json

    output.line(json.dumps({"study": view.as_json(), "sites": sites}))


def _print_new(view: StudyView, sites: JsonObject, shown: dict[str, str]) -> None:
    """Print what differs from what was printed last, one line per study, round and site."""
    lines = {"study": f"study {view.study}: {view.state}" + (f" ({view.reason})" if view.reason else "")}
    for one in view.rounds:
        auc = metric_text(one.metrics, "auc")
        lines[one.ctx_hash] = (
            f"round {round_name(one)}: {one.state}, {len(one.uploaded)}/{len(one.invited)} uploaded"
            + (f", survivors {', '.join(one.survivors)}" if one.survivors else "")
            + (f", AUC received {auc}" if auc else "")
            + (f", {one.reason}" if one.reason else "")
        )
    if view.state not in ENDED:
        lines |= {f"site {site}": f"site {site}: {now.get('doing')}" for site, now in sites.items()}
    elif view.best_model:
        lines["best"] = f"best model version: round {view.best_round}, {view.best_model}"
    for key, text in lines.items():
        if shown.get(key) != text:
            shown[key] = text
            output.line(text)
