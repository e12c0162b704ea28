"""`mitral-site run`."""

import signal

import typer

from site_agent.agent import Agent
from site_agent.logs import log_stream, make_log


def run(context: typer.Context) -> None:
    """Run the agent until it is stopped (SIGTERM or Ctrl-C); it stops within 5 seconds and loses nothing."""
    with context.obj.open() as state, log_stream(state.settings.log_file) as stream:
        agent = Agent(state, log=make_log(state.settings.log_level, stream))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: agent.stop())
        agent.run()
