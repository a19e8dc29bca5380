"""The pilots of an experiment: a short training for each cost among its cells, on the real cluster."""

from dataclasses import replace

from harness.matrix import Experiment, PlannedCell
from harness.planning.cost import Cost, cost_of, find_cluster, shape_of
from harness.planning.known import PILOT
from harness.run_spec import Origin
from harness.settings import Settings
from harness.shortening import Shortening

ITERATIONS = 300
EPOCHS = 2
"""Of which the second goes on from the checkpoint of the first (training/pilot.py)."""
IMAGES = 200


def pilot_experiment(experiment: Experiment, settings: Settings) -> Experiment:
    """The experiment NAME-pilot: of cells of equal cost the first, for ITERATIONS iterations or the experiment's own

    shortening, if that is shorter. It fills no table.
    Raises UserError where the cluster of the settings is not known.
    """
    cluster = find_cluster(settings)
    first: dict[Cost, PlannedCell] = {}
    for planned in experiment.cells:
        shape = shape_of(planned.cell.name, planned.resources, cluster, settings)
        cost = cost_of(planned.executed, planned.recipe.precision, shape, planned.resources.workers)
        first.setdefault(cost, planned)
    return replace(
        experiment,
        name=f"{experiment.name}{PILOT}",
        description=f"What an iteration of each kind of cell of {experiment.name} takes",
        seeds=experiment.seeds[:1],
        cells=tuple(replace(planned, shortening=pilot_shortening(planned)) for planned in first.values()),
        tables=(),
        origin=Origin.PILOT,
    )


def pilot_shortening(planned: PlannedCell) -> Shortening:
    """EPOCHS epochs, of ITERATIONS in all; no longer than the cell is, where its shortening tells that."""
    own = planned.shortening
    each = own.iterations_per_epoch
    total = ITERATIONS if each is None else min(ITERATIONS, planned.executed.epochs * each)
    return replace(
        own,
        epochs=EPOCHS,
        iterations_per_epoch=max(1, total // EPOCHS),
        eval_images=min(IMAGES, own.eval_images or IMAGES),
    )
