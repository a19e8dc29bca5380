"""Starting runs and watching them: jobs, the local supervisor, submit, status."""
