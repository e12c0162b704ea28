"""APScheduler as an alarm clock: it nudges the driver and signs checkpoints; it decides nothing."""

from collections.abc import Callable
from datetime import datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler


class Scheduler:
    """Deadlines of studies, and work that recurs."""

    def __init__(self) -> None:
        """Make a scheduler that is not running yet."""
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone="UTC",
        )

    def start(self) -> None:
        """Start the thread."""
        self._scheduler.start()

    def stop(self) -> None:
        """Stop the thread; what is due later is found again at the next start."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def at(self, name: str, moment: datetime, call: Callable[[], None]) -> None:
        """Call once at a moment; a later request under the same name replaces an earlier one."""
        self._scheduler.add_job(call, "date", run_date=moment, id=name, replace_existing=True)

    def every(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        """Call again and again."""
        self._scheduler.add_job(call, "interval", seconds=seconds, id=name, replace_existing=True)
