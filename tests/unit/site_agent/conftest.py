"""Hospitals that are ready for a round."""

from tests.support.hospital_fixtures import hospitals, prepared_hospitals

__all__ = ["hospitals", "prepared_hospitals"]
