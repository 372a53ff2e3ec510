"""Adds up the reports of the campaign's pieces, which are the files given, and prints the sum."""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

GROUPS = ["Redshift", "S3", "Adobe", "services", "operators", "rare ways"]

pieces = [Path(name).read_text() for name in sys.argv[1:] if name.endswith(".txt")]
failed = [name for name in sys.argv[1:] if name.endswith(".failed")]
seconds = faults = 0
levels: Counter[str] = Counter()
rows: Counter[str] = Counter()
met: dict[str, Counter[str]] = defaultdict(Counter)
for piece in pieces:
    seconds += int(re.search(r"^chaos: seed \d+, (\d+) s$", piece, re.M)[1])
    told = re.search(r"^(\d+) faults at (\w+) isolation", piece, re.M)
    faults += int(told[1])
    levels[told[2]] += 1
    counts = re.search(r"^sent=.*?;", piece, re.M)[0]
    rows.update({name: int(times) for name, times in re.findall(r"(\w+)=(\d+)", counts)})
    for line in piece.splitlines():
        if heading := re.fullmatch(r"(\w[\w ]*?)( \(\d+\))?(,.*)?:", line):
            group = heading[1]
        elif kind := re.fullmatch(r" +(\d+) (.+)", line):
            met[group][kind[2]] += int(kind[1])

of = ", ".join(f"{times} at {level} isolation" for level, times in sorted(levels.items()))
print(f"{faults:,} faults in {len(pieces)} pieces of {seconds:,} s in all, {of}; {len(failed)} pieces failed")
print(" ".join(f"{name}={times}" for name, times in rows.items()))
assert set(met) == set(GROUPS), f"other groups than expected: {set(met)}"
for group in GROUPS:
    print(f"{group}:")
    for kind, times in sorted(met[group].items()):
        print(f"  {times:6} {kind}")
