"""Where tasks run: threads, processes, SLURM jobs or any cluster. Knows nothing of movies."""
