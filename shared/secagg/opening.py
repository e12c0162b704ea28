"""Released shares to secrets, or the name of who cheated (PROTOCOLS A7 R4; attack table row 15).

Three commitments decide. A released share that does not fit the dealer's share commitment was changed by the responder.
Shares that fit and still give a secret other than the committed one were dealt wrong. Nobody is blamed for silence.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from itertools import chain, combinations, islice

from shared.errors import Misuse, PeerFault
from shared.secagg.pair_secrets import b_commit, secret_index, seed_commit, share_commit
from shared.secagg.shamir import combine, decode_element, encode_element, lagrange_at_zero

_MOST_SUBSETS = 256  # a dealer whose shares fit no secret in that many subsets has dealt wrong, whichever they are


@dataclass(frozen=True, slots=True)
class ReleasedShares:
    """One site's unmask response: its shares of b_i {i: share} and of s_ik {i: {k: share}}."""

    b: Mapping[str, bytes] = field(repr=False)
    s: Mapping[str, Mapping[str, bytes]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DealerCommitments:
    """What one survivor committed to in its signed manifest, and the n share commitments in its blob for each site."""

    b_commit: bytes
    seed_commit: Mapping[str, bytes]
    shares: Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Opening:
    """What the responses so far open, what is still short of shares, and who is to blame.

    `false_responders` maps a responder to the dealers of whose secrets it released a wrong share; those entries were
    left out. `false_dealers` dealt shares that fit their commitments and open something else: with one of them the
    round is lost. `inconsistent_dealers` did so too, but another subset of their shares gave the committed secret.
    """

    self_secrets: dict[str, bytes] = field(default_factory=dict, repr=False)
    pair_seeds: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False)
    missing: list[tuple[str, str | None]] = field(default_factory=list)
    false_responders: dict[str, set[str]] = field(default_factory=dict)
    false_dealers: set[str] = field(default_factory=set)
    inconsistent_dealers: set[str] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Answer whether every secret that the sum needs is open."""
        return not self.missing and not self.false_dealers


def open_secrets(
    ctx_hash: bytes,
    cohort: Sequence[str],
    survivors: Sequence[str],
    t: int,
    *,
    responses: Mapping[str, ReleasedShares],
    dealers: Mapping[str, DealerCommitments],
) -> Opening:
    """Open b_i of every survivor and s_ik of every edge between a survivor i and a lost site k, as far as shares allow.

    `dealers` is asked for each survivor once, in order: it may read from disk, where n^3 commitments lie. `missing` of
    the result names (i, None) or (i, k) of the secrets that have fewer than `t` good shares so far. Shares of anything
    else are ignored.

    Raises:
        Misuse: ``unmask_inputs`` for responders outside the cohort or survivors without commitments.
    """
    if not set(responses) <= set(cohort) or not set(survivors) <= set(cohort) & set(dealers):
        raise Misuse("unmask_inputs", "responses and commitments come from members of the cohort")
    opening = Opening()
    lost = [site for site in cohort if site not in set(survivors)]
    for dealer in survivors:
        opener = _Opener(ctx_hash, cohort, t, responses, dealer, dealers[dealer], opening)
        for peer in (None, *lost):
            if dealer not in opening.false_dealers:
                opener.open(peer)
    return opening


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens the secrets of one dealer; `peer` None is its b."""

    ctx_hash: bytes
    cohort: Sequence[str]
    t: int
    responses: Mapping[str, ReleasedShares] = field(repr=False)
    dealer: str
    commitments: DealerCommitments
    opening: Opening

    def open(self, peer: str | None) -> None:
        good = self._good_shares(peer)
        if len(good) < self.t:
            self.opening.missing.append((self.dealer, peer))
            return
        for attempt, xs in enumerate(_subsets(sorted(good), self.t)):
            value = encode_element(combine(lagrange_at_zero(xs), [good[x] for x in xs]))
            if self._is_committed(peer, value):
                if peer is None:
                    self.opening.self_secrets[self.dealer] = value
                else:
                    self.opening.pair_seeds[self.dealer, peer] = value
                if attempt:
                    self.opening.inconsistent_dealers.add(self.dealer)
                return
        self.opening.false_dealers.add(self.dealer)

    def _good_shares(self, peer: str | None) -> dict[int, bytes]:
        index = secret_index(self.cohort, self.dealer, peer)
        good = {}
        for x, site in enumerate(self.cohort, 1):
            response = self.responses.get(site)
            if response is None:
                continue
            share = response.b.get(self.dealer) if peer is None else response.s.get(self.dealer, {}).get(peer)
            if share is None:
                continue
            made = share_commit(self.ctx_hash, self.dealer, site, index, share)
            if _is_element(share) and compare_digest(made, self.commitments.shares[site][index]):
                good[x] = share
            else:
                self.opening.false_responders.setdefault(site, set()).add(self.dealer)
        return good

    def _is_committed(self, peer: str | None, value: bytes) -> bool:
        if peer is None:
            return compare_digest(b_commit(self.ctx_hash, self.dealer, value), self.commitments.b_commit)
        made = seed_commit(self.ctx_hash, self.dealer, peer, value)
        return compare_digest(made, self.commitments.seed_commit[peer])


def _subsets(xs: list[int], t: int) -> Iterator[tuple[int, ...]]:
    """Yield subsets of `t`, windows first: a few of them already leave out any one wrong share."""
    windows = (tuple(sorted((xs[start:] + xs[:start])[:t])) for start in range(len(xs)))
    return islice(chain(windows, combinations(xs, t)), _MOST_SUBSETS)


def _is_element(share: bytes) -> bool:
    try:
        decode_element(share)
    except PeerFault:
        return False
    return True
