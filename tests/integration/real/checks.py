"""Sums up checks.jsonl, which the tests of real programs write: how many stacks libunwind walked again, how many differed, and
every loss that a report named. Usage: checks.py FILE"""
import collections
import json
import sys


def main(path):
    by_program = collections.defaultdict(collections.Counter)
    losses = collections.defaultdict(collections.Counter)
    with open(path) as file:
        for line in file:
            row = json.loads(line)
            program = row["process"].rsplit(".", 2)[0]
            by_program[program].update(reports=1, checks=row["checks"], disagreed=row["disagreed"])
            losses[program].update(row["losses"])
    for program, sums in sorted(by_program.items()):
        print(f"{program}: {sums['reports']} reports, {sums['checks']} checks, {sums['disagreed']} disagreed; "
              f"{dict(losses[program]) or 'no losses'}")
    print(f"all: {sum(s['checks'] for s in by_program.values())} checks, {sum(s['disagreed'] for s in by_program.values())} disagreed")


if __name__ == "__main__":
    main(sys.argv[1])
