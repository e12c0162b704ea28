"""The poll answer: what the coordinator wants from this site now (PROTOCOLS section 1, clause 9).

The set of commands is *derived from the coordinator's state* at every poll, so nothing is lost by a crash on either
side. `cursor` is a digest of the set: a site sends back the cursor it has already handled, and the coordinator answers
as soon as the set differs, or after `wait` seconds. A site that restarts polls with an empty cursor and is told
everything again; every command is idempotent.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.canonical import canonical_bytes, sha256_hex
from shared.protocol.confirm_survivors import Statement, UploadReference
from shared.protocol.round_context import Context
from shared.protocol.wire import Hash, Id, Timestamp, WireObject


class RosterCommand(WireObject):
    """The newest roster version and who approved it; fetch it when it is unknown or has gained approvals."""

    kind: Literal["roster"]
    version: Annotated[int, Field(ge=1)]
    roster: Hash
    approved_by: list[Id]


class StudyCommand(WireObject):
    """A study that names this site; the plan is the blob of that digest."""

    kind: Literal["study"]
    study: Id
    plan: Hash
    state: Literal["submitted", "running", "paused", "finished", "stopped"]
    outcomes: Annotated[int, Field(ge=0)]  # how many outcomes it has: fetch those you do not know


class PairingCommand(WireObject):
    """Make a pairing bundle for this study with at least this serial."""

    kind: Literal["pairing"]
    study: Id
    serial: Annotated[int, Field(ge=1)]
    members: list[Id]


class BundleReference(WireObject):
    """Where to find a member's current bundle: the signed payload's hash, and the envelope's blob digest."""

    site: Id
    pairing: Hash
    blob: Hash


class BundlesCommand(WireObject):
    """The other members' current bundles."""

    kind: Literal["bundles"]
    study: Id
    bundles: list[BundleReference]


class OpenCommand(WireObject):
    """R0: train for this context and upload before `upload_until`; the lease ends then."""

    kind: Literal["open"]
    ctx: Context
    upload_until: Timestamp


class CloseCommand(WireObject):
    """R2: decide on this statement."""

    kind: Literal["close"]
    ctx: Context
    stmt: Statement
    uploads: list[UploadReference]


class UnmaskCommand(WireObject):
    """R3: fetch the unmask request of this context and answer it."""

    kind: Literal["unmask"]
    study: Id
    ctx_hash: Hash


class EndedCommand(WireObject):
    """This context ended without an outcome: wipe its secrets."""

    kind: Literal["ended"]
    study: Id
    ctx_hash: Hash
    state: Literal["ABANDONED", "LOST"]
    reason: str


class WitnessCommand(WireObject):
    """Check that the log continues the copy you have, and cosign its head (PROTOCOLS B3)."""

    kind: Literal["witness"]
    add_checkpoint: str  # C2SP: old size, consistency proof, blank line, signed note


class FinalCommand(WireObject):
    """The log is said to be final up to this size: fetch the cosigned heads and see for yourself."""

    kind: Literal["final"]
    size: Annotated[int, Field(ge=1)]


Command = Annotated[
    RosterCommand
    | StudyCommand
    | PairingCommand
    | BundlesCommand
    | OpenCommand
    | CloseCommand
    | UnmaskCommand
    | EndedCommand
    | WitnessCommand
    | FinalCommand,
    Field(discriminator="kind"),
]


class PollAnswer(WireObject):
    """The whole answer; `action` speaks to the agent itself."""

    v: Literal["SA1"]
    action: Literal["work", "sleep", "stop"]
    sleep_seconds: Annotated[int, Field(ge=0, le=3600)]
    reason: str | None
    cursor: str
    time: Timestamp  # the coordinator's clock: the agent reports skew
    commands: list[Command]


def cursor_of(commands: list[Command]) -> str:
    """Return the digest that names a set of commands."""
    return sha256_hex(canonical_bytes([command.as_json() for command in commands]))
