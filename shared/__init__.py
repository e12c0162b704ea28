"""Contracts and mathematics that every side of Mitral agrees on.

No web framework, no database and no network live here. ``shared.tasks`` is the only place with torch; the coordinator
never imports it. ``shared.crypto`` is the only place with `cryptography` (besides the self-contained
``shared.audit.verify``).
"""
