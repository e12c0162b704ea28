"""Who may be invited to a round, and whether to wait for somebody (PROTOCOLS A3, A6, A11)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from coordinator.presence import Presence
from coordinator.storage import pairings, sites, studies
from coordinator.storage.database import Transaction
from coordinator.storage.pairings import Pairing
from coordinator.storage.rosters import StoredRoster
from coordinator.storage.studies import Study
from shared.canonical import b64u, sha256_hex
from shared.errors import Refusal
from shared.protocol.pairing import LONGEST_USE_ASKED, MOST_USES_ASKED
from shared.secagg.parameters import Parameters, check_parameters, least_survivors, threshold


@dataclass(frozen=True, slots=True)
class Cohort:
    """The sites to invite, or why nobody is invited yet and when to look again."""

    sites: list[str]
    waiting_for: str | None = None
    look_again_at: datetime | None = None


def able(tx: Transaction, study: Study) -> set[str]:
    """Return the sites that are approved and whose stewards approve the study: the others sign nothing for it."""
    willing = {
        site
        for site, (plan_hash, decision) in studies.read_approvals(tx, study.study).items()
        if decision == "approve" and plan_hash == study.plan_hash
    }
    return willing & {site.site for site in sites.read_sites_in(tx, "approved")}


def members(tx: Transaction, study: Study, roster: StoredRoster | None) -> list[str]:
    """Return the sites that may take part: in the plan, in the active roster, approved, willing, not kept out."""
    if roster is None:
        return []
    # A hospital that enrolled anew has another key than the roster says: the others would not accept its signature.
    pinned = {entry["id"]: entry["idk"] for entry in roster.roster["sites"]}
    allowed = {
        site.site
        for site in sites.read_sites_in(tx, "approved")
        if site.barred is None and site.idk is not None and pinned.get(site.site) == b64u(site.idk)
    }
    willing = able(tx, study) & allowed
    return [site for site in study.plan.sites if site in willing]


def choose(
    members: list[str], bundles: Mapping[str, Pairing], roster: StoredRoster, presence: Presence, *, study: Study,
    kind: str, waiting_since: datetime, gather_seconds: float, now: datetime,
) -> Cohort:  # fmt: skip
    """Return the members that are online and cover each other, or the reason to wait.

    A member that has just hung up, or has not called since this process started, gets `gather_seconds` to come; so has
    one that is here and still making its pairing bundle. Nobody is waited for longer.
    """
    usable = {site: one for site, one in bundles.items() if is_usable(one, roster.roster_hash, now)}
    online = [site for site in members if presence.is_online(site, now)]
    cohort = mutually_covering(online, usable, f"{study.study} {waiting_since}")
    why_not = is_too_small(len(cohort), roster, study, kind, cohort)
    absent = [site for site in members if site not in cohort]
    patience_until = waiting_since + timedelta(seconds=gather_seconds)
    pending = [site for site in absent if site in online and now < patience_until]
    coming = [site for site in absent if presence.is_expected(site, now)]
    if why_not is None and not pending and not coming:
        return Cohort(cohort)
    times = [presence.expected_until(site) for site in coming] + ([patience_until] if pending else [])
    if why_not is None:
        return Cohort([], f"waiting a moment for {', '.join(pending + coming)}", min(times))
    unpaired = [site for site in online if site not in cohort]
    offline = [site for site in members if site not in online]
    detail = [f"{len(members)} of {len(study.plan.sites)} sites are members"]
    detail += [f"offline: {', '.join(offline)}"] if offline else []
    detail += [f"not paired yet: {', '.join(unpaired)}"] if unpaired else []
    return Cohort([], f"{why_not} ({'; '.join(detail)})", min(times) if times else None)


def mutually_covering(sites: Collection[str], bundles: Mapping[str, Pairing], lot: str = "") -> list[str]:
    """Return sites that all cover each other; of an uncovered pair the one with more gaps is left out.

    Between equals `lot`, which changes from round to round, decides: nobody can always be the one that stays.
    """
    chosen = sorted(site for site in sites if site in bundles)

    def gaps(site: str) -> int:
        return sum(
            other not in bundles[site].members or site not in bundles[other].members
            for other in chosen
            if other != site
        )

    while chosen:
        worst = max(chosen, key=lambda site: (gaps(site), sha256_hex(f"{lot} {site}".encode())))
        if gaps(worst) == 0:
            break
        chosen.remove(worst)
    return chosen


def round_numbers(n: int, roster: StoredRoster, study: Study) -> tuple[int, int, int]:
    """Return (t, c, m) of a round with `n` sites (PROTOCOLS A3)."""
    c = int(roster.roster["c"])
    t = threshold(n, c)
    return t, c, study.plan.secure_aggregation.least_survivors or least_survivors(n, t)


def is_too_small(n: int, roster: StoredRoster, study: Study, kind: str, cohort: list[str]) -> str | None:
    """Return why these sites cannot run a round, or None: C1 to C6 and the overflow rule, as every site checks them."""
    if n < 3:
        return f"{n} of at least 3 sites are online and paired"
    t, c, m = round_numbers(n, roster, study)
    numbers = study.plan.secure_aggregation
    b, q = (numbers.b, numbers.q) if kind == "update" else (32, 16)
    try:
        check_parameters(
            Parameters(n, t, c, m, q, b, numbers.w_cap), cohort, site=cohort[0], roster_sites=roster.site_ids,
            members=cohort, roster_c=c,
        )  # fmt: skip
    except Refusal as error:
        return f"{n} sites are online and paired: {error.detail}"
    return None


def needs_bundle(site: str, members: list[str], bundle: Pairing | None, roster_hash: str, now: datetime) -> bool:
    """Return whether a member has to make a new pairing bundle (PROTOCOLS A6)."""
    return bundle is None or not is_usable(bundle, roster_hash, now) or not set(members) - {site} <= bundle.members


def is_usable(bundle: Pairing, roster_hash: str, now: datetime) -> bool:
    """Return whether a context may name a bundle: of this roster, not to be renewed, not worn."""
    age = now - datetime.fromisoformat(bundle.received_at)
    is_worn = bundle.uses >= MOST_USES_ASKED or age > LONGEST_USE_ASKED
    return bundle.roster_hash == roster_hash and not bundle.renew and not is_worn


def read_bundles(tx: Transaction, study: str) -> dict[str, Pairing]:
    """Return each site's newest bundle."""
    return pairings.read_current(tx, study)
