"""The command ``gram-r2``: each module holds one sub-command, and `app` puts them together."""
