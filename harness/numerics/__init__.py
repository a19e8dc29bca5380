"""Whether the recipes, the model and its blocks give the published numbers: checks that a user can run."""
