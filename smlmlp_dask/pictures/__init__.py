"""Pictures of results, and what looks wrong in them."""
