"""Reads statements, one JSON string a line, and parses each with sqlglot as Redshift's.

A statement that sqlglot refuses, or passes through without having understood it, is an error, unless ACCEPTED names it.
"""

import collections
import json
import logging
import re
import sys

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

# Statements that sqlglot passes through as words, and why Redshift takes them nevertheless.
ACCEPTED = {
    r"LOCK ": "sqlglot knows no LOCK; Redshift documents LOCK [ TABLE ] table",
    r"ALTER TABLE \S+ ALTER COLUMN \S+ ENCODE \w+$": "Redshift documents ALTER COLUMN column_name ENCODE encode_type",
}


class Warnings(logging.Handler):
    """sqlglot says by a warning that it falls back to words."""

    def __init__(self):
        super().__init__()
        self.last = None

    def emit(self, record):
        self.last = record.getMessage()


def main(path):
    warnings = Warnings()
    log = logging.getLogger("sqlglot")
    log.handlers, log.propagate = [warnings], False
    parsed, accepted, faults = collections.Counter(), collections.Counter(), 0
    with open(path, encoding="utf-8") as lines:
        statements = {json.loads(line) for line in lines}
    for statement in sorted(statements):
        warnings.last = None
        try:
            trees = [tree for tree in sqlglot.parse(statement, dialect="redshift") if tree is not None]
            words = [tree for tree in trees if isinstance(tree, exp.Command)]
            how = "it is taken as words" if words or warnings.last else None
        except SqlglotError as error:
            trees, how = [], str(error)
        pattern = next((pattern for pattern in ACCEPTED if re.match(pattern, statement)), None)
        if how is None:
            parsed.update(tree.key for tree in trees)
        elif pattern is not None:
            accepted[pattern] += 1
        else:
            faults += 1
            print(f"{how}\n    {statement[:1000]}", file=sys.stderr)
    for pattern in ACCEPTED.keys() - accepted.keys():
        faults += 1
        print(f"accepted, and never met: {pattern}", file=sys.stderr)
    kinds = ", ".join(f"{count} {kind}" for kind, count in parsed.most_common())
    print(f"{len(statements)} statements: {kinds}; taken as words and accepted: {dict(accepted)}")
    return 1 if faults or not statements else 0


sys.exit(main(sys.argv[1]))
