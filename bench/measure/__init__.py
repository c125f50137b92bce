"""The machinery of the benchmark: builds what it needs, starts and accounts for programs, collects samples, reports.

It knows nothing of what is measured; that is in the package `rows`, one module a group of rows.
"""
