"""That a supervisor lives while runs are queued on this machine."""

import time

from harness.errors import UserError
from harness.launching import supervisor
from harness.launching.frozen_code import freeze
from harness.launching.local_queue import Home
from harness.settings import Settings

REPLACEMENTS = 3
"""Supervisors in a row that may end without doing anything before one gives up."""
REPLACEMENT_SECONDS = 20.0
"""In which a supervisor that was started must be seen."""


def start_supervisor(settings: Settings) -> None:
    """Start a supervisor with the present code and these settings; where one lives already it leaves at once."""
    supervisor.start_detached(
        Home(settings.run_root),
        code=freeze(settings.run_root),
        jobs=settings.local_jobs,
        threads=settings.threads,
        tracking_uri=settings.tracking_uri,
    )


def replace_supervisor(settings: Settings, replacements: list[float]) -> None:
    """Start a supervisor where none lives, giving each REPLACEMENT_SECONDS to come up.

    replacements: when it was done before, since anything changed. Raises UserError after REPLACEMENTS in a row.
    """
    home, now = Home(settings.run_root), time.monotonic()
    if supervisor.lives(home) or (replacements and now - replacements[-1] < REPLACEMENT_SECONDS):
        return
    if len(replacements) == REPLACEMENTS:
        raise UserError(f"the supervisor does not stay alive: see {home.log}, then run harness submit again")
    replacements.append(now)
    start_supervisor(settings)
