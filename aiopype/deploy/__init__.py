"""What is needed to run a flow as a service, made from its graph and its metrics."""
