"""The page of every command, from the typer applications of the three programs."""

import importlib
from typing import cast

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from docs.writer.markdown import plain, table

PROGRAMS = {
    "mitral": "workbench.cli.main",
    "mitral-site": "site_agent.cli.main",
    "mitral-coordinator": "coordinator.cli.main",
}


def usage(command: TyperCommand) -> str:
    """Return a command's arguments and options as one line of usage."""
    parts = []
    for one in command.params:
        if isinstance(one, TyperArgument):
            name = one.metavar or (one.name or "").upper()
            parts.append(name if one.required or name.startswith("[") else f"[{name}]")
        elif isinstance(one, TyperOption) and not one.hidden and one.required:
            parts.append(f"{one.opts[0]} {value_name(one)}")
    return " ".join([*parts, "[OPTIONS]"])


def value_name(option: TyperOption) -> str:
    """Return what stands behind an option on the command line; nothing for a flag."""
    return "" if option.is_flag else option.metavar or (option.name or "").upper()


def options_table(command: TyperCommand | TyperGroup) -> str:
    """Return the table of a command's arguments and options; nothing when it has none."""
    rows = []
    for one in command.params:
        if isinstance(one, TyperArgument):
            rows.append((f"`{one.metavar or (one.name or '').upper()}`", one.help or "", ""))
        elif isinstance(one, TyperOption) and not one.hidden and one.name != "help":
            silent = one.is_flag or one.default in {None, ""} or callable(one.default)
            shown = " / ".join([*one.opts, *one.secondary_opts])
            default = "" if silent else f"`{one.default}`"
            rows.append((f"`{f'{shown} {value_name(one)}'.strip()}`", one.help or "", default))
    return "\n" + table(("Option", "Meaning", "Default"), *rows) if rows else ""


def command_page(name: str, command: TyperCommand | TyperGroup) -> str:
    """Return one command, or a group's own options and its commands one after the other."""
    if isinstance(command, TyperGroup):
        members = cast("dict[str, TyperCommand | TyperGroup]", command.commands)
        inner = "".join(command_page(f"{name} {verb}", one) for verb, one in members.items() if not one.hidden)
        own = options_table(command)
        return (f"\nBefore the verb:\n{own}" if own else "") + inner
    text = f"\n### {name}\n\n```\n{name} {usage(command)}\n```\n\n{plain(command.help)}\n"
    return text + options_table(command)


def commands() -> dict[str, TyperCommand | TyperGroup]:
    """Return the three programs' commands by name."""
    return {
        program: cast("TyperCommand | TyperGroup", get_command(importlib.import_module(module).app))
        for program, module in PROGRAMS.items()
    }


def command_line() -> str:
    """Return the page of every command of the three programs."""
    text = (
        "# Command line\n\n"
        "Three programs. `mitral` is the researcher's and the auditor's, `mitral-site` the hospital's,\n"
        "`mitral-coordinator` the coordinator's. Errors go to standard error with a code from the\n"
        "[problems](problems.md), results to standard output; `--json` prints a result for scripts.\n"
    )
    for program, command in commands().items():
        text += f"\n## {program}\n\n{command.help}\n"
        text += command_page(program, command)
    return text
