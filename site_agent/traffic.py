"""What leaves and enters, by class: every request has one, and every byte of its connection is counted to it."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit


class Traffic(StrEnum):
    """A class of traffic. None of them carries records, figures or an update in clear."""

    CONNECTION = "connection"
    IDENTITY = "identity"
    POLL = "poll"
    ROSTER = "roster"
    STUDY = "study"
    PAIRING = "pairing"
    MODEL = "model"
    MASKED_UPDATE = "masked_update"
    MASKED_METRICS = "masked_metrics"
    SHARES = "shares"
    DECISION = "decision"
    UNMASK = "unmask"
    OUTCOME = "outcome"
    ATTESTATION = "attestation"
    REFUSAL = "refusal"
    LOG = "log"
    SYSLOG = "syslog"
    OTHER = "other"


class Meaning(NamedTuple):
    """What a class is for people: a title, what goes out, what comes in, and who can read what goes out."""

    title: str
    leaves: str
    enters: str
    readable: str


_COORDINATOR = "the coordinator"
_AUDITED = "the coordinator; the other hospitals and auditors through the audit log"

# fmt: off
MEANINGS: dict[Traffic, Meaning] = {
    Traffic.CONNECTION: Meaning("Connection set-up", "TLS handshakes with this site's certificate", "the coordinator's certificate", "anybody on the way, as with every TLS connection"),
    Traffic.IDENTITY: Meaning("Enrolment and certificates", "public keys, the hospital's name, signed requests for certificates", "this site's certificates", _COORDINATOR),
    Traffic.POLL: Meaning("Asking for work", "which answer was seen last, and the number of this process", "what is to be done", _COORDINATOR),
    Traffic.ROSTER: Meaning("Roster", "this site's signature under the list of hospitals", "the list of hospitals and their keys", _AUDITED),
    Traffic.STUDY: Meaning("Studies", "which plan this hospital approved or withdrew", "study protocols", _AUDITED),
    Traffic.PAIRING: Meaning("Pairing bundles", "one random secret per hospital, sealed to its key", "the other hospitals' bundles", "only the hospital a secret is sealed to"),
    Traffic.MODEL: Meaning("Model versions", "the digest of what is fetched", "model versions", _COORDINATOR),
    Traffic.MASKED_UPDATE: Meaning("Masked updates", "model changes and counters with masks added, and hashes of them", "receipts", "nobody: uniformly random without the other hospitals' masks"),
    Traffic.MASKED_METRICS: Meaning("Masked figures", "counters of evaluations and statistics with masks added, and hashes of them", "receipts", "nobody: uniformly random without the other hospitals' masks"),
    Traffic.SHARES: Meaning("Share blobs", "shares of a round's mask secrets, each sealed to one hospital", "receipts", "only the hospital a share is sealed to"),
    Traffic.DECISION: Meaning("Decisions", "a signature under the list of survivors", "receipts", _AUDITED),
    Traffic.UNMASK: Meaning("Unmask responses", "shares that remove the masks of a sum", "the certified request with the other hospitals' shares", _COORDINATOR),
    Traffic.OUTCOME: Meaning("Outcomes", "the number or digest of what is fetched", "published sums and their log entries", _COORDINATOR),
    Traffic.ATTESTATION: Meaning("Attestations", "a signature under the digest of a model version", "receipts", _AUDITED),
    Traffic.REFUSAL: Meaning("Refusals and complaints", "a stable code and its sentence", "receipts", _AUDITED),
    Traffic.LOG: Meaning("Audit log", "the position that was seen, this site's cosignature", "entries, proofs and signed heads of the audit log", _AUDITED),
    Traffic.SYSLOG: Meaning("Copies of this log", "entries of this log", "nothing", "the hospital's own log server"),
    Traffic.OTHER: Meaning("Anything else", "requests that fit no class above", "their answers", _COORDINATOR),
}
# fmt: on

# In bursts of rounds or all day long: they are written down together, less often.
QUIET = frozenset({Traffic.CONNECTION, Traffic.POLL, Traffic.LOG, Traffic.SYSLOG})

_ROUTES: tuple[tuple[str, Traffic], ...] = (
    (r"/v1/agent/poll", Traffic.POLL),
    (
        r"/v1/(agent|enrol|renew|renew-expired|revoke|certificates|nonces?|statements|state-resets)(/.*)?",
        Traffic.IDENTITY,
    ),
    (r"/v1/rosters/.*", Traffic.ROSTER),
    (r"/v1/studies/[^/]+/approvals/.*", Traffic.STUDY),
    (r"/v1/studies/[^/]+/pairings/.*", Traffic.PAIRING),
    (r"/v1/studies/[^/]+/outcomes", Traffic.OUTCOME),
    (r"/v1/blobs/.*", Traffic.MODEL),
    (r"/v1/rounds/[^/]+/(uploads|manifest)/.*", Traffic.MASKED_UPDATE),
    (r"/v1/rounds/[^/]+/shares/.*", Traffic.SHARES),
    (r"/v1/rounds/[^/]+/decision/.*", Traffic.DECISION),
    (r"/v1/rounds/[^/]+/(unmask|unmask-request)/.*", Traffic.UNMASK),
    (r"/v1/rounds/[^/]+/attestation/.*", Traffic.ATTESTATION),
    (r"/v1/(rounds/[^/]+/refusal|complaints)/.*", Traffic.REFUSAL),
    (r"/v1/log/.*", Traffic.LOG),
    (r"/v1/health/.*|/v1/openapi.json", Traffic.POLL),
)


def traffic_of(path: str) -> Traffic:
    """Return the class of a request by its path; callers that know better (a blob is a plan, say) name it."""
    return next((traffic for pattern, traffic in _ROUTES if re.fullmatch(pattern, path)), Traffic.OTHER)


def destination_of(url: str, proxy: str | None) -> str:
    """Return where a client's bytes go, ``host:port``, and through which proxy; never a password."""
    there = _host_and_port(url, 443)
    return there if proxy is None else f"{there} through the proxy {_host_and_port(proxy, 80)}"


class Flow(NamedTuple):
    """Bytes of one class to and from one destination: what the network got and gave, TLS and HTTP included."""

    traffic: str
    destination: str
    exchanges: int
    sent: int
    received: int


class Meter:
    """Counts the bytes of all connections to one destination. Each thread is in at most one exchange at a time."""

    def __init__(self, destination: str) -> None:
        """Count for a destination, ``host:port``."""
        self.destination = destination
        self._lock = threading.Lock()
        self._totals: dict[str, list[int]] = {}
        self._current = threading.local()

    @contextmanager
    def exchange(self, traffic: Traffic) -> Iterator[None]:
        """Count this thread's bytes to `traffic`; that there was an exchange is counted even if no byte gets across."""
        self._add(traffic, 0, 1)
        with self.attributed(traffic):
            yield

    @contextmanager
    def attributed(self, traffic: Traffic) -> Iterator[None]:
        """Count this thread's bytes to `traffic`, without counting an exchange: connection set-up within one."""
        before = getattr(self._current, "traffic", None)
        self._current.traffic = traffic
        try:
            yield
        finally:
            self._current.traffic = before

    def sent(self, count: int) -> None:
        """Count bytes that were handed to the network."""
        self._add(self._traffic(), 1, count)

    def received(self, count: int) -> None:
        """Count bytes that the network gave."""
        self._add(self._traffic(), 2, count)

    def classes(self) -> set[str]:
        """Return the classes that something was counted to since the last `take`."""
        with self._lock:
            return set(self._totals)

    def take(self) -> list[Flow]:
        """Return what was counted since the last call."""
        with self._lock:
            totals, self._totals = self._totals, {}
        return [Flow(traffic, self.destination, *counts) for traffic, counts in sorted(totals.items())]

    def give_back(self, flows: list[Flow]) -> None:
        """Count again what was taken and could not be written down."""
        for flow in flows:
            for position, count in enumerate((flow.exchanges, flow.sent, flow.received)):
                self._add(flow.traffic, position, count)

    def _traffic(self) -> str:
        return getattr(self._current, "traffic", None) or Traffic.CONNECTION

    def _add(self, traffic: str, position: int, count: int) -> None:
        with self._lock:
            self._totals.setdefault(str(traffic), [0, 0, 0])[position] += count


def _host_and_port(url: str, default: int) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or default}"
