"""The report: a section for each daemon, of which the others' stay when some are measured again."""

import os
import re

HEAD = """# Measured

What `scripts/bench --save` printed last, daemon by daemon. Load generator, daemon and peers share the machine,
so take the ratios, not the figures.
"""


def section(name, facts, parts):
    """A daemon's section: the machine and the sitting, then its cases."""
    lines = "\n".join(f"- {title}: {value}" for title, value in facts)
    return "\n\n".join([f"## {name}", lines, *parts]) + "\n"


def kept(path):
    """The sections of a report by their daemons' names."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        parts = re.split(r"^## (.*)\n", file.read(), flags=re.MULTILINE)
    return {name: f"## {name}\n{text.rstrip()}\n" for name, text in zip(parts[1::2], parts[2::2])}


def save(path, sections, order):
    """Puts these sections into the report, in this order, and leaves its others as they are."""
    all_sections = {**kept(path), **sections}
    text = "\n".join([HEAD, *[all_sections[name] for name in order if name in all_sections]])
    # At once: who is interrupted here keeps the old report.
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
