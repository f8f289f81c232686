"""Bulk generation: shards on disk, the process that fills them, and where those processes run."""
