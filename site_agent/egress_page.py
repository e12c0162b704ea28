"""The page "what left this hospital": one file of HTML without scripts, for somebody who has to say yes or no."""

from html import escape

from site_agent.egress import DayTotal, Decision, Report, in_words
from site_agent.traffic import MEANINGS, Flow, Traffic

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --paper: #fff; --left: #2f6f9f;
  --entered: #b9cfdf; --warn: #8a5300; --panel: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --line: #313a46; --paper: #14191f;
  --left: #6fb1dd; --entered: #34536b; --warn: #e0a458; --panel: #1b222a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .75rem; }
p { max-width: 44rem; margin: .5rem 0; }
.soft { color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.75rem 0 1.25rem; padding: 0; list-style: none; }
.figures li { flex: 1 1 8.5rem; background: var(--panel); border-radius: .5rem; padding: 1rem 1.1rem; }
.figures strong { display: block; font-size: 1.6rem; line-height: 1.25; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .6rem .75rem .6rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; font-size: .875rem; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td.wide { width: 70%; }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td small { display: block; color: var(--soft); font-size: .875rem; line-height: 1.45; }
.bar { display: block; height: .5rem; border-radius: .25rem; min-width: 2px; margin: .2rem 0; background: var(--left); }
.bar.entered { background: var(--entered); }
.key::before { content: ""; display: inline-block; width: .75rem; height: .5rem; border-radius: .25rem;
  background: var(--left); margin-right: .4rem; }
.key.entered::before { background: var(--entered); }
.key { margin-right: 1.25rem; }
.warn { border-left: 3px solid var(--warn); padding-left: .85rem; }
code { font: .875em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
@media (max-width: 44rem) {
  main { padding-top: 1.5rem; }
  table.stack thead { position: absolute; left: -9999px; }
  table.stack, .stack tbody, .stack tr { display: block; }
  .stack tr { border-bottom: 1px solid var(--line); padding: .75rem 0; }
  .stack td, .stack th { display: block; border: 0; padding: .1rem 0; }
  .stack td.n { text-align: left; }
  .stack td.who::before { content: "Readable by "; color: var(--soft); font-size: .875rem; }
  .stack td.who { line-height: 1.45; }
  .stack td.who small { display: inline; }
  .stack td[data-name]::before { content: attr(data-name); color: var(--soft); display: inline-block; width: 6.5rem; }
  td.wide { width: 45%; }
}
@media print { .figures li { border: 1px solid var(--line); } }
"""


def page(report: Report) -> str:
    """Return the page of a report: everything in one file, nothing is loaded, no script runs."""
    name = escape(report.name or report.site)
    parts = [
        f"<h1>What left {name}</h1>",
        (
            f'<p class="soft">Site <code>{escape(report.site)}</code> of the federation'
            f" <code>{escape(report.federation)}</code>, {_moment(report.since)} to {_moment(report.until)} (UTC)</p>"
        ),
        _figures(report),
        (
            "<p>No patient record, no image, no figure of this hospital and no model update left in clear: the site"
            " agent has no message that could carry one. What left is listed below, by class, with who can read it.</p>"
        ),
        *_warnings(report),
        "<h2>By class</h2>",
        _classes(report),
        "<h2>Studies</h2>",
        _studies(report.studies),
        "<h2>By destination</h2>",
        _destinations(report),
        "<h2>By day</h2>",
        _days(report.days),
        _footer(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>What left {name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _figures(report: Report) -> str:
    destinations = len(report.by("destination"))
    items = [
        (in_words(report.sent), "left"),
        (in_words(report.received), "entered"),
        (str(destinations), "destination" if destinations == 1 else "destinations"),
    ]
    return '<ul class="figures">' + "".join(f"<li><strong>{a}</strong>{b}</li>" for a, b in items) + "</ul>"


def _warnings(report: Report) -> list[str]:
    found = []
    if report.first_at is None:
        found.append("The log is empty: the agent has not run yet.")
    elif report.since < report.first_at:
        found.append(f"The log begins on {_moment(report.first_at)}; about the time before, this page says nothing.")
    if report.unclosed:
        times = ", ".join(_moment(at) for at in report.unclosed)
        found.append(
            "The agent ended without closing its log, because its process or the machine was stopped hard. What it sent"
            f" in the last moments before is not counted. It started again: {times}."
        )
    return [f'<p class="warn">{text}</p>' for text in found]


def _classes(report: Report) -> str:
    rows = "".join(_class_row(traffic, flow) for traffic, flow in report.by("traffic").items())
    if not rows:
        return '<p class="soft">Nothing left and nothing entered.</p>'
    head = '<tr><th>What</th><th>Left readable by</th><th class="n">Left</th><th class="n">Entered</th></tr>'
    return f'<table class="stack"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _class_row(traffic: str, flow: Flow) -> str:
    meaning = MEANINGS[Traffic(traffic)]
    times = "once" if flow.exchanges == 1 else f"{flow.exchanges:,} times"
    about = f"{escape(meaning.leaves)}; in return: {escape(meaning.enters)}"
    return (
        f"<tr><td><strong>{escape(meaning.title)}</strong>"
        f"{', ' + times if flow.exchanges else ''}<small>{about}</small></td>"
        f'<td class="who"><small>{escape(meaning.readable)}</small></td>'
        f'<td class="n" data-name="Left">{in_words(flow.sent)}</td>'
        f'<td class="n" data-name="Entered">{in_words(flow.received)}</td></tr>'
    )


def _studies(decisions: list[Decision]) -> str:
    rows = "".join(
        f"<tr><td><strong>{escape(one.title)}</strong><small><code>{escape(one.study)}</code></small></td>"
        f"<td><small>{_decided(one)}</small></td></tr>"
        for one in decisions
    )
    note = '<p class="soft">As decided now. Nothing is trained or sent for a study that is not approved here.</p>'
    return note + (f'<table class="stack"><tbody>{rows}</tbody></table>' if rows else "")


def _decided(one: Decision) -> str:
    if one.decision == "approve":
        until = "" if one.until is None else f" until {_moment(one.until)} UTC"
        return (
            f"approved by {escape(one.approver or '')}{until}, with the data set <code>{escape(one.data or '')}</code>"
        )
    said = {"none": "not approved", "withdraw": "the approval was withdrawn"}
    return escape(said.get(one.decision, f"the approval does not count: {one.decision}"))


def _destinations(report: Report) -> str:
    rows = "".join(
        f'<tr><td><code>{escape(name)}</code></td><td class="n" data-name="Left">{in_words(flow.sent)}</td>'
        f'<td class="n" data-name="Entered">{in_words(flow.received)}</td></tr>'
        for name, flow in report.by("destination").items()
    )
    head = '<tr><th>Host and port</th><th class="n">Left</th><th class="n">Entered</th></tr>'
    note = '<p class="soft">The agent dials these and nothing else. It accepts no connection.</p>'
    return note + (f'<table class="stack"><thead>{head}</thead><tbody>{rows}</tbody></table>' if rows else "")


def _days(days: list[DayTotal]) -> str:
    if not days:
        return '<p class="soft">There is no day to show.</p>'
    most = max(1, *(max(day.sent, day.received) for day in days))
    rows = "".join(
        f'<tr><td>{day.day}</td><td class="wide">{_bar(day.sent, most, "")}{_bar(day.received, most, " entered")}</td>'
        f'<td class="n">{in_words(day.sent)}<small>{in_words(day.received)}</small></td></tr>'
        for day in reversed(days)
    )
    key = '<p class="soft"><span class="key">left</span><span class="key entered">entered</span></p>'
    return f"{key}<table><tbody>{rows}</tbody></table>"


def _bar(count: int, most: int, kind: str) -> str:
    return f'<span class="bar{kind}" style="width: {100 * count / most:.1f}%"></span>'


def _footer(report: Report) -> str:
    return (
        "<footer><h2>How far this can be trusted</h2>"
        f"<p>{report.entries:,} entries of the site's own log were checked for this page. Each is signed by this site's"
        " identity key and holds the digest of the one before it. The bytes are those of the TCP connections, with"
        " encryption and headers, as the agent handed them to the operating system; they agree with a capture on the"
        " network interface. The log shows what the agent did; what other programs on the machine send, a firewall"
        " shows.</p>"
        f"<p>Fingerprint of this site: <code>{escape(report.fingerprint)}</code><br>"
        f"Newest entry: <code>{escape(str(report.head))}</code></p>"
        "<p>Keep the newest entry's number and digest. Whoever has them can find out later whether anything was changed"
        f" or cut off: <code>mitral-site egress --verify --head {escape(str(report.head))}</code></p></footer>"
    )


def _moment(at: str) -> str:
    return escape(f"{at[:10]} {at[11:16]}")
