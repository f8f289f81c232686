"""Preference data as people publish it, read into the records of `data.records`."""
