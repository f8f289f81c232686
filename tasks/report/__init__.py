"""What people see of a run: pages, tables and charts, and the same in Prefect's UI."""
