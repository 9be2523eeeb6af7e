"""The output on disk: how it is written, proved and read back."""
