"""Checks on `cargo metadata` which crate may depend on which. Reads it on stdin; exit 1 with every wrong arrow.

With --self-test, it checks instead that each kind of wrong arrow is caught.
"""

import copy
import json
import sys

# Arrows point to a lower floor only.
FLOORS = {
    "common": 0,
    "http-fetch": 0,
    "zmq-link": 1,
    "consul-client": 1,
    "etcd-gateway": 1,
    "redis-link": 1,
    "supervise": 1,
    "daemon": 1,
    "gone": 2,
    "reception": 2,
    "cluster": 2,
    "update-log": 2,
}
BINS = 3
# `common` is pure: none of these may be below it, however far.
IO_CRATES = {
    "async-std", "hyper", "hyper-util", "mio", "redis", "reqwest", "rustix", "rustls", "smol",
    "socket2", "tempfile", "tokio", "ureq", "zmq",
}


def floor_of(package):
    """The floor of a package of ours; None for testkit, which stands beside the house."""
    if "/bins/" in package["manifest_path"]:
        return BINS
    return FLOORS.get(package["name"])


def wrong_arrows(metadata):
    """One sentence for each arrow that may not be."""
    members = set(metadata["workspace_members"])
    ours = {package["name"]: package for package in metadata["packages"] if package["id"] in members}
    wrong = []
    for name, package in sorted(ours.items()):
        if name != "testkit" and floor_of(package) is None:
            wrong.append(f"{name}: has no floor yet; give it one in scripts/arrows.d/check.py")
            continue
        for dependency in package["dependencies"]:
            to = ours.get(dependency["name"]) if dependency.get("path") else None
            if to is not None:
                wrong += wrong_arrow(package, to, dependency["kind"])
    return wrong + impure(metadata, ours)


def wrong_arrow(package, to, kind):
    """What is wrong with this one arrow: a list of none or one."""
    name, other = package["name"], to["name"]
    if other == "testkit":
        if kind == "dev":
            return []
        return [f"{name} -> testkit: testkit is for tests, a dev-dependency only"]
    if name == "testkit":
        return [] if other == "common" else [f"testkit -> {other}: testkit knows no crate but common"]
    floor, below = floor_of(package), floor_of(to)
    if floor == BINS and below == BINS:
        return [f"{name} -> {other}: no daemon's package imports another's"]
    if below is not None and floor <= below:
        return [f"{name} -> {other}: arrows go down only, from floor {floor} to a lower one, not to {below}"]
    return []


def impure(metadata, ours):
    """The I/O crates that `common` reaches by ordinary dependencies."""
    if "common" not in ours or not metadata.get("resolve"):
        return []
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo, seen = [ours["common"]["id"]], set()
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        for dependency in nodes[at]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    found = sorted({names[at] for at in seen} & IO_CRATES)
    return [f"common -> ... -> {name}: common is pure, without I/O, clock or async" for name in found]


def self_test():
    """A small house, one wrong arrow at a time."""

    def package(name, folder="crates"):
        return {"id": name, "name": name, "manifest_path": f"/m/{folder}/{name}/Cargo.toml", "dependencies": []}

    house = {
        "packages": [package(name) for name in [*FLOORS, "testkit"]]
        + [package("spawn-proxy", "bins"), package("demo", "bins")]
        + [{"id": "tokio", "name": "tokio", "manifest_path": "/r/tokio/Cargo.toml", "dependencies": []}],
    }
    house["workspace_members"] = [each["id"] for each in house["packages"] if each["id"] != "tokio"]
    house["resolve"] = {"nodes": [{"id": each["id"], "deps": []} for each in house["packages"]]}

    def with_arrow(name, other, kind=None):
        changed = copy.deepcopy(house)
        (at,) = [each for each in changed["packages"] if each["name"] == name]
        at["dependencies"].append({"name": other, "kind": kind, "path": f"/m/{other}"})
        (node,) = [each for each in changed["resolve"]["nodes"] if each["id"] == name]
        node["deps"].append({"pkg": other, "dep_kinds": [{"kind": kind}]})
        return wrong_arrows(changed)

    fine = [
        ("spawn-proxy", "update-log", None), ("spawn-proxy", "daemon", None), ("update-log", "common", None),
        ("gone", "consul-client", None), ("spawn-proxy", "testkit", "dev"), ("testkit", "common", None),
        ("common", "tokio", "dev"), ("daemon", "tokio", None),
    ]
    bad = [
        ("common", "daemon", None), ("daemon", "gone", None), ("gone", "update-log", None),
        ("daemon", "spawn-proxy", None), ("spawn-proxy", "demo", None), ("spawn-proxy", "demo", "dev"),
        ("spawn-proxy", "testkit", None), ("spawn-proxy", "testkit", "build"), ("testkit", "daemon", None),
        ("common", "tokio", None), ("daemon", "gone", "dev"),
    ]
    assert wrong_arrows(house) == []
    for arrow in fine:
        assert with_arrow(*arrow) == [], f"{arrow} is fine: {with_arrow(*arrow)}"
    for arrow in bad:
        assert len(with_arrow(*arrow)) == 1, f"{arrow} has to be caught once: {with_arrow(*arrow)}"
    stranger = copy.deepcopy(house)
    stranger["packages"].append(package("helpers"))
    stranger["workspace_members"].append("helpers")
    assert len(wrong_arrows(stranger)) == 1, "a crate without a floor has to be caught"
    print(f"arrows: {len(bad) + 1} kinds of wrong arrow are caught")


def main():
    """Prints every wrong arrow of the metadata on stdin."""
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    wrong = wrong_arrows(json.load(sys.stdin))
    for sentence in wrong:
        print(f"arrows: {sentence}")
    if wrong:
        sys.exit(1)
    print("arrows: all of them go one way")


if __name__ == "__main__":
    main()
