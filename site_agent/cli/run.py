"""`mitral-site run`."""

import signal

import typer

from site_agent.agent import Agent


def run(context: typer.Context) -> None:
    """Run the agent until it is stopped (SIGTERM or Ctrl-C); it stops within 5 seconds and loses nothing."""
    with context.obj.open() as state:
        agent = Agent(state)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: agent.stop())
        agent.run()
