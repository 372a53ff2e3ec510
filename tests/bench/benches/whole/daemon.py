"""What a daemon in Python does with each hit of a Livestream, from gzip to CSV: daemon.py STREAM COLUMNS RECORDS DIR

STREAM is a gzip member that need not end, COLUMNS a JSON list of [kind, [path, ...]] and a path a list of keys. Only the
standard library is used. What is left out is in this loop's favour: no HTTP, no upload, no log that survives a crash, no
look for hits that came before. Prints one line of JSON.
"""

import csv
import gzip
import json
import os
import sys
import time
import zlib
from datetime import datetime, timezone

PIECE = 64 << 10
ROWS_PER_FILE = 1000


def lines(stream):
    """The lines of the text, as soon as they are whole."""
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    rest = b""
    with open(stream, "rb") as pieces:
        while piece := pieces.read(PIECE):
            *whole, rest = (rest + inflate.decompress(piece)).split(b"\r\n")
            yield from whole


def timestamp(value):
    return datetime.fromtimestamp(int(value), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def event(value):
    total = 0
    for entry in value:
        exponent = entry.get("exponent", 0)
        count = entry["count"]
        total += count if exponent == 0 else count * 10**exponent
    return total


def joined(value):
    if isinstance(value, dict):
        value = value.get("values", [])
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def text(value):
    return value if isinstance(value, str) else json.dumps(value)


CELLS = {"timestamp": timestamp, "event_value": event, "list": joined}


def readers(columns):
    """For each column the object it is looked up in, its keys there, and how it becomes a cell."""
    parents = {}
    found = []
    for kind, paths in columns:
        parent = parents.setdefault(tuple(paths[0][:-1]), len(parents))
        found.append((parent, [path[-1] for path in paths], CELLS.get(kind, text)))
    return list(parents), found


def row(record, parents, columns):
    objects = []
    for path in parents:
        there = record
        for key in path:
            there = there.get(key) or {}
        objects.append(there)
    cells = []
    for parent, keys, cell in columns:
        there = objects[parent]
        for key in keys:
            value = there.get(key)
            if value is not None:
                break
        if value is None or value == "":
            cells.append("")
            continue
        try:
            cells.append(cell(value))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            cells.append("")
    return cells


def write(rows, path):
    with gzip.open(path, "wt", compresslevel=6, encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="~", lineterminator="\n").writerows(rows)


def peak_kib():
    """Not from getrusage, which counts what this process was before it became Python."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main(stream, columns, records, folder):
    with open(columns, encoding="utf-8") as file:
        parents, columns = readers(json.load(file))
    rows, done, size = [], 0, 0
    begun = time.perf_counter(), time.process_time()
    for line in lines(stream):
        if not line:
            continue
        rows.append(row(json.loads(line), parents, columns))
        done += 1
        size += len(line) + 2
        if len(rows) == ROWS_PER_FILE:
            write(rows, os.path.join(folder, f"{done}.csv.gz"))
            rows = []
        if done == records:
            break
    seconds, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(json.dumps({"records": done, "bytes": size, "seconds": seconds, "cpu": cpu, "peak_kib": peak_kib()}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
