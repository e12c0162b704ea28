"""One round, phase by phase; the same file names as in `shared/protocol` and `site_agent/rounds` (PROTOCOLS A7)."""
