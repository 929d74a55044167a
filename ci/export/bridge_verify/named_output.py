"""A file that the user named: what a link leads to is kept, and a pipe or a device gets the bytes."""

import os
import pathlib


def write(path, content):
    """Bytes; complete or not at all where the name is that of a file or of none."""
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            stream.write(content)
        return
    real = pathlib.Path(os.path.realpath(path))
    part = real.with_name(real.name + ".part")
    part.write_bytes(content)
    os.replace(part, real)
