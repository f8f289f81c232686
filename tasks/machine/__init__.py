"""Processes, GPUs and other machines."""
