# shellcheck shell=bash
# shellcheck disable=SC2154  # $target is common.sh's
# Sourced after common.sh: gets Consul 1.8.7, which Debian had last in bullseye, without installing it.

# need_consul: leaves the program as $target/tools/consul unless it is there, or in PATH, already.
need_consul() {
    has consul && return
    [ -x "$target/tools/consul" ] && return
    if ! has apt-get || ! has dpkg-deb; then
        say "missing, and there is no apt-get here: put a consul of 1.8 or later into PATH"
        return 1
    fi
    local tools work mirror
    mkdir -p "$target/tools"
    tools=$(cd "$target/tools" && pwd)
    work=$tools/consul.apt
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || {
        say "apt knows no Debian mirror here: put a consul of 1.8 or later into PATH"
        return 1
    }
    say "fetching consul from $mirror (bullseye)"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    printf 'deb %s bullseye main\n' "$mirror" >"$work/sources.list"
    # Lists and packages of its own: the system's apt does not change, and this need not be root.
    local apt=(apt-get -q -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=)
    (
        cd "$work" &&
            "${apt[@]}" update >&2 &&
            "${apt[@]}" download consul >&2 &&
            dpkg-deb -x consul_*.deb unpacked &&
            mv unpacked/usr/bin/consul "$tools/consul"
    ) || {
        say "consul could not be fetched"
        return 1
    }
    rm -rf "$work"
    "$tools/consul" version >&2
}

# The mirror that the system's apt is configured with for Debian itself (not for its security updates).
debian_mirror() {
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
        awk '$1 == "Debian" && $2 !~ /-/ { print $3; exit }'
}
