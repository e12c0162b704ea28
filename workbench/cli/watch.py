"""`mitral study watch`: a live view in a terminal, one plain line per change elsewhere."""

import json
import sys
import time
from collections.abc import Callable

from rich.live import Live

from shared.canonical import JsonObject
from shared.errors import Unavailable
from shared.protocol.study import StudyView
from workbench.cli import output
from workbench.client import POLL_SECONDS, CoordinatorClient
from workbench.study_picture import ENDED, round_line, study_picture

_MOST_RETRIES = 20


def follow(client: CoordinatorClient, study: str, *, as_json: bool, once: bool) -> StudyView:
    """Show a study until it ends (or once) and return its last state.

    Raises:
        Unavailable: the coordinator was away for longer than a few minutes.
    """
    if as_json:
        return poll(client, study, _print_json, once=once)
    if sys.stdout.isatty() and not once:
        with Live(console=output.console(), refresh_per_second=4) as live:
            return poll(client, study, lambda view, sites: live.update(study_picture(view, sites)), once=once)
    shown: dict[str, str] = {}
    return poll(client, study, lambda view, sites: _print_new(view, sites, shown), once=once)


def poll(
    client: CoordinatorClient, study: str, show: Callable[[StudyView, JsonObject], None], *, once: bool
) -> StudyView:
    """Call `show` at every change until the study ends; a coordinator that restarts meanwhile is waited for."""
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


def _print_json(view: StudyView, sites: JsonObject) -> None:
    output.line(json.dumps({"study": view.as_json(), "sites": sites}))


def _print_new(view: StudyView, sites: JsonObject, shown: dict[str, str]) -> None:
    """Print what differs from what was printed last, one line per study, round and site."""
    lines = {"study": f"study {view.study}: {view.state}" + (f" ({view.reason})" if view.reason else "")}
    lines |= {one.ctx_hash: round_line(one) for one in view.rounds}
    if view.state not in ENDED:
        lines |= {f"site {site}": f"site {site}: {now.get('doing')}" for site, now in sites.items()}
    elif view.best_model:
        lines["best"] = f"best model version: round {view.best_round}, {view.best_model}"
    for key, text in lines.items():
        if shown.get(key) != text:
            shown[key] = text
            output.line(text)
