"""Settings every test runs under: nothing from the caller's shell leaks in, and Hypothesis does not race the clock."""

import os

import pytest
from hypothesis import HealthCheck, settings

# One thread per process: several agents train side by side in the end-to-end tests, and a pool of threads in each would
# make them slower and their timing wilder. Set before anything imports numpy or torch; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Deadlines measure the machine, not the code; a busy machine must not turn a passing property into a failure.
settings.register_profile("mitral", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mitral")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the caller's proxies and Mitral settings: a test that wants one sets it itself."""
    for name in list(os.environ):
        if name.startswith("MITRAL_") or name.lower() in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}:
            monkeypatch.delenv(name)
