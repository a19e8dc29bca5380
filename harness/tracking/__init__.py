"""MLflow mirrors the run folders: the shipper writes, the queries read. The only room that knows MLflow."""
