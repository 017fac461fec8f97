#!/usr/bin/env python3
"""Draws the spans of one trace as an SVG: a row each, by time, coloured by service, with the node that made it.

The spans come from the test `one_command_is_one_trace_across_three_nodes_and_a_worker` (STATEHOUSE_SPANS=FILE cargo test …);
`rsvg-convert picture.svg -o picture.png` makes a PNG of it.
"""
import html
import json
import sys

COLOURS = {"ingress": "#3b6fb6", "shard": "#3f8f5f", "store": "#b8782e", "worker": "#8a4f9e"}
ROW, LEFT, WIDTH = 22, 360, 560


def ordered(spans):
    below = {}
    for span in sorted(spans, key=lambda one: one["from"]):
        below.setdefault(span["parent"], []).append(span)
    known = {span["id"] for span in spans}
    rows = []

    def walk(span, depth):
        rows.append((depth, span))
        for one in below.get(span["id"], []):
            walk(one, depth + 1)

    for span in spans:
        if span["parent"] not in known:
            walk(span, 0)
    return rows


def main(source, target):
    spans = json.load(open(source, encoding="utf-8"))
    rows = ordered(spans)
    first = min(span["from"] for span in spans)
    # A worker may take long: what is waited for is drawn on a scale of its square root.
    last = max(span["until"] for span in spans)
    place = lambda at: LEFT + WIDTH * ((at - first) / max(last - first, 1)) ** 0.5
    height = ROW * (len(rows) + 3)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" font-family="DejaVu Sans" font-size="11">',
           f'<rect width="100%" height="100%" fill="white"/>',
           f'<text x="8" y="18" font-size="13">One command across three nodes and a worker: {(last - first) / 1e6:.1f} ms (time on a square-root scale)</text>']
    for number, (depth, span) in enumerate(rows):
        y = ROW * (number + 2)
        role = span["service"].rsplit("-", 1)[-1]
        left, right = place(span["from"]), place(span["until"])
        name = html.escape(span["name"].replace("/v1/tenants/{t}", "…"))
        took = (span["until"] - span["from"]) / 1e6
        out.append(f'<text x="{8 + 12 * depth}" y="{y}">{name}</text>')
        out.append(f'<text x="{LEFT - 58}" y="{y}" fill="#666">{html.escape(span["node"])}</text>')
        out.append(f'<rect x="{left:.1f}" y="{y - 11}" width="{max(right - left, 2):.1f}" height="14" fill="{COLOURS.get(role, "#777")}"/>')
        out.append(f'<text x="{max(right, left + 2) + 5:.1f}" y="{y}" fill="#444">{took:.1f} ms</text>')
    y = ROW * (len(rows) + 2) + 8
    for number, (role, colour) in enumerate(COLOURS.items()):
        out.append(f'<rect x="{8 + 120 * number}" y="{y - 11}" width="14" height="14" fill="{colour}"/>')
        out.append(f'<text x="{28 + 120 * number}" y="{y}">{role}</text>')
    out.append("</svg>")
    open(target, "w", encoding="utf-8").write("\n".join(out))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
