"""The state directory of one command."""

from dataclasses import dataclass
from pathlib import Path

from site_agent.agent import State, open_state
from site_agent.config import read_settings


@dataclass(frozen=True, slots=True)
class Opened:
    """Where the command works; opened when it needs to."""

    root: Path

    def open(self, *, create: bool = False) -> State:
        """Open the state directory; `create` makes a fresh one.

        Raises:
            InputError: ``not_enrolled``, ``state_permissions``, ``settings_invalid``.
        """
        return open_state(self.root, read_settings(self.root), create=create)
