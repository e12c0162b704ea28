"""What people see while the demo runs, and the table at its end. Readable at 80 columns, without colours, in a log."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from shared.canonical import JsonObject
from shared.protocol.study import StudyView
from workbench.study_picture import ENDED, plain_table, round_line, study_picture

_LAST_STEPS = 8
_LIVE_ROUNDS = 6


class Screen:
    """Steps of the set-up, then the study as it goes: redrawn in a terminal, one line per event elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        """Take a console (default: standard output)."""
        self.console = console or Console(highlight=False, soft_wrap=False)
        self._started = time.monotonic()
        self._live = (
            Live(console=self.console, refresh_per_second=4, transient=False) if self.console.is_terminal else None
        )
        self._steps: list[str] = []
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start drawing."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture on the screen."""
        if self._live:
            self._live.stop()

    def say(self, what: str) -> None:
        """Show one step or event, with the seconds since the start."""
        line = f"{time.monotonic() - self._started:6.1f} s  {what}"
        if self._live is None:
            self.console.print(line, soft_wrap=True)
        else:
            self._steps.append(line)
            self._live.update(self._steps_so_far())

    def show(self, view: StudyView, sites: JsonObject) -> None:
        """Show the study and its sites."""
        if self._live is not None:
            self._live.update(Group(self._steps_so_far(), Text(""), study_picture(view, sites, _LIVE_ROUNDS)))
            return
        for one in view.rounds:
            if one.state in {"PUBLISHED", "ABANDONED", "LOST"}:
                self._once(one.ctx_hash, round_line(one))
        if view.state in ENDED:
            self._once("state", f"study {view.study}: {view.state}" + (f" ({view.reason})" if view.reason else ""))

    def _once(self, key: str, text: str) -> None:
        if self._shown.get(key) != text:
            self._shown[key] = text
            self.say(text)

    def _steps_so_far(self) -> Text:
        return Text("\n".join(self._steps[-_LAST_STEPS:]))


def print_report(report: JsonObject, console: Console | None = None) -> None:
    """Print the result of a demo: the comparison, what left each site, what the coordinator saw, the log, the files."""
    out = console or Console(highlight=False)
    out.print(Rule("Result", style="none"))
    out.print(_comparison(report))
    out.print()
    out.print(_traffic(report))
    out.print()
    for line in _facts(report):
        out.print(Text(line), soft_wrap=False)


def _comparison(report: JsonObject) -> Group:
    table = plain_table("model", "training cases", "AUC", right=("training cases", "AUC"))
    cases = report["training_cases"]
    table.add_row(
        f"federated: {len(report['sites'])} hospitals, nothing but the sum seen",
        str(sum(cases.values())),
        f"{report['federated_auc']:.4f}",
    )
    table.add_row(
        "pooled: all data in one place, for comparison", str(sum(cases.values())), f"{report['pooled_auc']:.4f}"
    )
    for site, auc in report["local_auc"].items():
        table.add_row(f"{site} alone", str(cases[site]), "-" if auc is None else f"{auc:.4f}")
    head = f"All models on the same {report['test_cases']} test patients ({report['dataset']})"
    return Group(Text(head, style="bold"), table)


def _traffic(report: JsonObject) -> Group:
    table = plain_table("hospital", "masked uploads", "all bytes sent", right=("masked uploads", "all bytes sent"))
    for site in report["sites"]:
        sent = report["bytes_sent"].get(site)
        table.add_row(site, f"{report['bytes_out'][site]:,}", "-" if sent is None else f"{sent:,}")
    return Group(Text("What left each hospital, in bytes", style="bold"), table)


def _facts(report: JsonObject) -> list[str]:
    saw, difference = report["coordinator_saw"], report["difference_to_float64"]
    verified = "verified offline: every signature, the tree and the protocol's rules hold"
    return [
        (
            f"The coordinator saw {saw['masked_vectors']} masked vectors ({saw['masked_bytes']:,} bytes) and "
            f"{saw['sums']} sums; updates in clear: {saw['updates_in_clear']}."
        ),
        f"Rounds: {report['rounds']}; hospitals in each sum: {_runs(report['survivors_per_round'])}.",
        (
            f"Against the same federation in float64 without masks, the AUC differs by {abs(difference):.5f} "
            f"({'within' if abs(difference) <= report['difference_allowed'] else 'MORE THAN'} the allowed "
            f"{report['difference_allowed']})."
        ),
        f"Log: {report['log_entries']} entries, {verified if report['log_verified'] else 'NOT VERIFIED'}.",
        (
            f"Its last head is final: {len(report['log_final']['cosigned_by'])} of {len(report['sites'])} hospitals "
            f"cosigned it, {report['log_final']['quorum']} are needed (checkpoint.txt)."
        ),
        f"Model: {report['model_digest']}",
        f"Files: {report['files']}",
        f"Took {report['seconds']:.0f} s.",
    ]


def _runs(numbers: list[int]) -> str:
    """Return 4, 3, 3, 4 as "4, 3 (2 times), 4"."""
    groups: list[tuple[int, int]] = []
    for number in numbers:
        if groups and groups[-1][0] == number:
            groups[-1] = (number, groups[-1][1] + 1)
        else:
            groups.append((number, 1))
    return ", ".join(f"{number} ({count} times)" if count > 1 else str(number) for number, count in groups)
