"""The whole job, path to path: planned, run, verified."""
