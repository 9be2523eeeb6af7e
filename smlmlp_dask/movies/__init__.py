"""Movies on disk, opened for their metadata, and the parts of them that are channels."""
