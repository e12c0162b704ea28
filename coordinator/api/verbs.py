"""Every verb of the three programs and the routes it calls: what a verb needs is what its routes ask for.

A verb without a route works on files of whoever runs it (a state directory, an export) and asks the coordinator
nothing as an operator. A test runs every verb that has one with every role and with no credential.
"""

from collections.abc import Mapping
from types import MappingProxyType

_FILES_ONLY: tuple[str, ...] = ()

VERBS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # --- the coordinator's own ---------------------------------------------------------------------------------
        "mitral-coordinator init": _FILES_ONLY,
        "mitral-coordinator serve": _FILES_ONLY,
        "mitral-coordinator recover": _FILES_ONLY,
        "mitral-coordinator account setup": ("POST /v1/account/setup", "POST /v1/account/confirm"),
        "mitral-coordinator account login": ("POST /v1/login",),
        "mitral-coordinator account logout": ("POST /v1/logout",),
        "mitral-coordinator account renew": ("POST /v1/account/link",),
        "mitral-coordinator sites invite": ("POST /v1/sites/invitations",),
        "mitral-coordinator sites list": ("GET /v1/sites",),
        "mitral-coordinator sites approve": ("POST /v1/sites/{site}/approve",),
        "mitral-coordinator sites reject": ("POST /v1/sites/{site}/reject",),
        "mitral-coordinator sites revoke": ("POST /v1/sites/{site}/revoke",),
        "mitral-coordinator sites readmit": ("POST /v1/sites/{site}/readmit",),
        "mitral-coordinator rosters propose": ("POST /v1/rosters",),
        "mitral-coordinator rosters list": ("GET /v1/rosters",),
        "mitral-coordinator operators add": ("POST /v1/operators",),
        "mitral-coordinator operators list": ("GET /v1/operators",),
        "mitral-coordinator operators link": ("POST /v1/operators/{operator}/link",),
        "mitral-coordinator operators bind": ("POST /v1/operators/{operator}/identity",),
        "mitral-coordinator operators role": ("POST /v1/operators/{operator}/role",),
        "mitral-coordinator operators remove": ("DELETE /v1/operators/{operator}",),
        "mitral-coordinator tokens issue": ("POST /v1/tokens",),
        "mitral-coordinator tokens list": ("GET /v1/tokens",),
        "mitral-coordinator tokens revoke": ("DELETE /v1/tokens/{token}",),
        "mitral-coordinator studies list": ("GET /v1/studies",),
        "mitral-coordinator studies show": ("GET /v1/studies/{study}",),
        "mitral-coordinator audit export": ("GET /v1/audit/export",),
        "mitral-coordinator audit erase": ("POST /v1/audit/erasures",),
        "mitral-coordinator log status": ("GET /v1/audit/witnesses",),
        "mitral-coordinator log rotate-key": _FILES_ONLY,
        # --- the researcher's and the auditor's --------------------------------------------------------------------
        "mitral study new": _FILES_ONLY,
        "mitral study check": _FILES_ONLY,
        "mitral study submit": ("GET /v1/whoami", "PUT /v1/blobs/{sha256}", "POST /v1/studies"),
        "mitral study start": ("POST /v1/studies/{study}/{verb}", "GET /v1/studies/{study}"),
        "mitral study pause": ("POST /v1/studies/{study}/{verb}", "GET /v1/studies/{study}"),
        "mitral study stop": ("POST /v1/studies/{study}/{verb}", "GET /v1/studies/{study}"),
        "mitral study watch": ("GET /v1/studies/{study}/watch",),
        "mitral study fetch": ("GET /v1/studies/{study}", "GET /v1/blobs/{sha256}", "GET /v1/audit/checkpoint"),
        "mitral audit verify": _FILES_ONLY,
        "mitral demo": _FILES_ONLY,
        "mitral bench round": _FILES_ONLY,
        "mitral bench secagg": _FILES_ONLY,
        "mitral bench heart-disease": _FILES_ONLY,
        # --- the hospital's: whoever may read its state directory is the steward -----------------------------------
        "mitral-site enrol": _FILES_ONLY,
        "mitral-site run": _FILES_ONLY,
        "mitral-site status": _FILES_ONLY,
        "mitral-site egress": _FILES_ONLY,
        "mitral-site revoke": _FILES_ONLY,
        "mitral-site data add": _FILES_ONLY,
        "mitral-site data list": _FILES_ONLY,
        "mitral-site roster show": _FILES_ONLY,
        "mitral-site roster approve": _FILES_ONLY,
        "mitral-site studies list": _FILES_ONLY,
        "mitral-site studies show": _FILES_ONLY,
        "mitral-site studies approve": _FILES_ONLY,
        "mitral-site studies withdraw": _FILES_ONLY,
    }
)
