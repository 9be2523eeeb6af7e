"""What is on the disk, to be compared."""


def contents(folder):
    """Return the bytes of every file: chunks, records and metadata."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
