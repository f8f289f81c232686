"""Published preference data, read into the records of `data.records`."""
