"""Whether a submit may take what its plan says: GPU-hours, and room on the disk."""

from harness.errors import UserError
from harness.planning.plan import Plan
from harness.wording import count, hours, size


def require_budget(plan: Plan, gpu_hours: float) -> None:
    """Raise UserError where the runs that a submit starts take more, or nobody knows how much."""
    if plan.unknown and any(run.gpus for run in plan.unknown):
        names = ", ".join(dict.fromkeys(run.name for run in plan.unknown))
        raise UserError(
            f"the budget of {gpu_hours:g} GPU-hours cannot be kept: nothing tells how long {names} takes; "
            "harness submit --pilot measures it, nothing was started"
        )
    if plan.gpu_hours > gpu_hours:
        raise UserError(
            f"{count(len(plan.starting), 'run')} take{'s' * (len(plan.starting) == 1)} {hours(plan.gpu_hours)} "
            f"GPU-hours, the budget is {gpu_hours:g}: take fewer cells or seeds, or raise it; nothing was started"
        )


def require_room(plan: Plan) -> None:
    """Raise UserError where there is no room for a single checkpoint of one of the runs that a submit starts."""
    largest = max(plan.starting, key=lambda run: run.checkpoint, default=None)
    if largest is not None and largest.checkpoint > plan.room.free:
        raise UserError(
            f"{largest.name}: a checkpoint of it takes {size(largest.checkpoint)}, and {plan.room.limit} has "
            f"{size(plan.room.free)} left: make room (harness clean lists what nothing needs), or set run_root to "
            "another disk; nothing was started"
        )


def crowded(plan: Plan) -> str:
    """Why the runs that a submit starts may fill the disk; "" where all of them fit."""
    if plan.size <= plan.room.free:
        return ""
    return (
        f"the runs to start ({len(plan.starting)}) may take {size(plan.size)}, and {plan.room.limit} has "
        f"{size(plan.room.free)} left: make room before they fill it (harness clean lists what nothing needs); a run "
        "that finds no room stops, and goes on from its last checkpoint"
    )
