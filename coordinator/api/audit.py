"""The export an auditor verifies offline."""

from starlette.responses import Response

from coordinator.api.call import Call
from coordinator.export import build_export


def export(call: Call) -> Response:
    """Return the whole log as a zip file."""
    coordinator = call.coordinator
    archive = build_export(coordinator.database, coordinator.log, call.operator, coordinator.clock.now())
    name = f"{coordinator.federation}-audit.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(archive, media_type="application/zip", headers=headers)
