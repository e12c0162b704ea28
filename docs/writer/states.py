"""The page of enrolment states, from the table that the coordinator itself obeys."""

import importlib

from docs.writer.markdown import table


def enrolment_states() -> str:
    """Return what each side sees in every state, and what leads from one to the next."""
    machine = importlib.import_module("coordinator.enrolment_states")
    text = (
        "# States of an enrolment\n\n"
        "What the administrator's list (`mitral-coordinator sites list`) and the hospital (`mitral-site status`) show\n"
        "in each state, and what a site may do there.\n\n"
    )
    rows = [(f"`{state}`", *machine.SEEN[state]) for state in machine.State]
    text += table(("State", "Administrator sees", "Hospital sees", "The site may"), *rows)
    text += "\n## What leads where\n\nAnything that is not in this table is refused with the code named.\n\n"
    rows = []
    for event in machine.Event:
        moves = [
            f"{'nothing' if before is None else f'`{before}`'} to `{after}`"
            for (before, what), after in machine.TRANSITIONS.items()
            if what is event
        ]
        code = machine.REFUSALS[event]
        rows.append((f"`{event}`", machine.MEANINGS[event], ", ".join(moves), f"[`{code}`](../reference/problems.md)"))
    return text + table(("Event", "Who does what", "From, to", "Otherwise"), *rows)
