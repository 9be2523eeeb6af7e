"""Movies and arrays as Dask arrays."""
