#!/usr/bin/env python3
"""Holds this build against the last one that passed here: CPU time of the node for a command, in alternation.

    .ci/regression.py THIS BASELINE

Both are debug builds of the same tests' features, so the ratio is what counts. Runs alternate (this, that, that, this, ...),
each on a new node with a new directory, because a machine drifts within minutes. The threshold: a binary held against its own
copy, beside other work on the same two cores, gave ratios of 0.951 and 1.018; three times the larger distance is 15 %. Two
rounds are few: whoever sees it fail without a reason should measure more of them first.
"""
import json, os, re, signal, statistics, subprocess, sys, tempfile

PAIRS = 4
THRESHOLD = 1.15
TOKEN = "regression"


def cpu_us(binary):
    """Runs a node and a load; returns the node's CPU time for a command, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        line = [binary, "dev", "--data", os.path.join(folder, "data"), "--listen", "127.0.0.1:0", "--token", TOKEN]
        node = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        try:
            address = None
            for said in node.stdout:
                found = re.search(r"http://\S+", said)
                address = address or (found and found.group(0))
                if said.startswith("ready"):
                    break
            if not address:
                sys.exit(f"{binary} did not start")
            line = [binary, "bench", "--servers", address, "--clients", "16", "--warm-up", "1s", "--time", "4s", "-o", "json"]
            told = subprocess.run(line, env={**os.environ, "STATEHOUSE_TOKEN": TOKEN}, capture_output=True, text=True)
            if told.returncode != 0:
                sys.exit(f"the load on {binary} failed: {told.stderr}")
            return json.loads(told.stdout)["cpu_us"]
        finally:
            node.send_signal(signal.SIGTERM)
            node.wait()


def main():
    this, baseline = sys.argv[1:3]
    figures = {this: [], baseline: []}
    for pair in range(PAIRS):
        for binary in (this, baseline) if pair % 2 == 0 else (baseline, this):
            figures[binary].append(cpu_us(binary))
    new, old = statistics.median(figures[this]), statistics.median(figures[baseline])
    ratio = new / old
    print(f"CPU for a command: this build {new:.0f} us {sorted(figures[this])}, the last {old:.0f} us {sorted(figures[baseline])}")
    print(f"ratio {ratio:.3f}, at most {THRESHOLD}")
    if ratio > THRESHOLD:
        sys.exit("a command has become dearer: find out why, or say why and remove the baseline")


main()
