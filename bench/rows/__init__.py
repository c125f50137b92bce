"""What is measured: one module a group of rows, each with a list `ROWS`."""
