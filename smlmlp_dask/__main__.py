"""``python -m smlmlp_dask``."""

from .cli import main

main()
