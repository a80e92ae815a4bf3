"""Tables in Markdown, which read well on a terminal too."""

HEAD = """# Measured

What `scripts/bench --save` printed last. Load generator, proxy and nodes share the machine, so take the
ratios, not the figures. Nodes are one nginx worker on three ports.

"""


def table(head, rows):
    """Columns as wide as what is in them; the first to the left, figures to the right."""
    cells = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]

    def line(row):
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2), *["-" * (width + 1) + ":" for width in widths[1:]]]) + "|"
    return "\n".join([line(cells[0]), rule, *[line(row) for row in cells[1:]]])


def facts(pairs):
    """The machine and the sitting."""
    return "\n".join(f"- {name}: {value}" for name, value in pairs)


def best(rows, prefix):
    """The fastest of the contenders whose names start so."""
    return max((row for row in rows if row["name"].startswith(prefix)), key=lambda row: row["rate"])


def ratio(ours, theirs):
    """How many times as fast."""
    return f"{ours['rate'] / theirs['rate']:.2f} x {theirs['name']}"


def contenders(rows, more=()):
    """The columns that every load has."""
    head = ["", "req/s", "lowest-highest", "p50 ms", "p99 ms", "CPU us/req", "RSS idle MiB", "loaded", "errors"]
    body = []
    for row in rows:
        low, high = row["spread"]
        body.append([
            row["name"], f"{row['rate']:,.0f}", f"{low:,.0f}-{high:,.0f}", f"{row['p50']:.2f}", f"{row['p99']:.2f}",
            f"{row['cpu_us']:.1f}", f"{row['idle']:.0f}", f"{row['rss']:.0f}", row["errors"],
            *[f"{row[key]:.2f}" for _, key in more],
        ])
    return table(head + [title for title, _ in more], body)


def get(rows):
    """Reads."""
    ours = best(rows, "spawn-proxy")
    ratios = ", ".join(ratio(ours, best(rows, peer)) for peer in ("haproxy", "nginx", "direct"))
    return f"## GET, 600 bytes, 64 connections\n\n{contenders(rows)}\n\nspawn-proxy: {ratios}."


def post(rows):
    """Updates."""
    ours = best(rows, "spawn-proxy")
    ratios = ", ".join(ratio(ours, best(rows, peer)) for peer in ("nginx mirror", "direct"))
    return (
        "## POST, 1 KiB, to three nodes, 256 connections, 10,000 paths\n\n"
        "spawn-proxy has each update on disk before it sends it and answers with a node's answer; nginx `mirror`"
        " keeps nothing and does not look at the copies' answers. `drain s`: from the end of the load until all"
        f" three nodes had everything.\n\n{contenders(rows, [('drain s', 'drain')])}\n\nspawn-proxy: {ratios}."
    )


def catch_up(row):
    """A node that was away."""
    return (
        "## A node comes back\n\n"
        f"One node was out for {row['owed']:,.0f} updates of 1 KiB (`--ordering global`: one at a time). It got"
        f" {row['rate']:,.0f} updates/s, {row['rate'] / row['direct']:.2f} x the {row['direct']:,.0f}/s of plain"
        f" POSTs over one connection; {row['cpu_us']:.1f} us of processor time each."
    )
