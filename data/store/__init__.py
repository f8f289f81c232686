"""Storage of stages: artifacts, their keys, and one run's folder, on this machine or at a URL."""
