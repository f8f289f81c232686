"""The Prefect server: pools, automations, deployments, and a server and worker on this machine."""
