#!/usr/bin/env python3
"""check_metrics.py FILE: is it Prometheus' text format, as its own checker wants it? Prints NAME{LABELS} VALUE,
a line each, labels sorted. What is wrong goes to stderr, and the exit status is 1."""

import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
HEAD = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|NaN|[+-]Inf)")


def check(text):
    seen, series, family, helped = set(), set(), None, None
    if not text.endswith("\n"):
        raise ValueError("does not end with a line feed")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        where = f"line {number}: {line!r}"
        if head := HEAD.fullmatch(line):
            kind, name, rest = head.groups()
            if kind == "HELP":
                if name in seen or re.search(r"\\(?![\\n])", rest):
                    raise ValueError(f"{where}: a second HELP, or a wrong escape")
                seen.add(name)
                helped, family = name, None
            elif name != helped or rest not in ("counter", "gauge"):
                raise ValueError(f"{where}: a TYPE without HELP, or of no type")
            else:
                family = name
                if (rest == "counter") != name.endswith("_total"):
                    raise ValueError(f"{where}: _total is for counters")
            continue
        sample = SAMPLE.fullmatch(line)
        if not sample or sample[1] != family or not family.startswith("nncache_"):
            raise ValueError(f"{where}: no sample of {family}")
        labels = re.findall(LABEL, sample[2] or "")
        names = [name for name, _ in labels]
        if len(set(names)) != len(names) or any(name.startswith("__") for name in names):
            raise ValueError(f"{where}: labels")
        key = family + "{" + ",".join(f"{k}={v}" for k, v in sorted(labels)) + "}"
        if key in series:
            raise ValueError(f"{where}: given twice")
        series.add(key)
        print(key.removesuffix("{}"), sample[sample.re.groups])


try:
    with open(sys.argv[1], encoding="utf-8") as file:
        check(file.read())
except ValueError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
