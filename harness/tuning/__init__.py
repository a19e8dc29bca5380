"""Studies: trainings whose recipe fields an optimiser chooses. The only import of optuna."""
