"""The program that is measured: reads all scans of a directory, and keeps a second copy of them."""

import pathlib
import sys

scans = b"".join(file.read_bytes() for file in sorted(pathlib.Path(sys.argv[1]).rglob("*.raw")))
smooth = bytearray(scans)
smooth[1:] = scans[:-1]
print(len(smooth))
