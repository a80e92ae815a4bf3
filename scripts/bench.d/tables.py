"""Tables in Markdown, which read well on a terminal too."""


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


def contenders(rows, more=()):
    """The columns that every load has, and `more`: pairs of title and key."""
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
