"""The output on disk: written, checked and read back."""
