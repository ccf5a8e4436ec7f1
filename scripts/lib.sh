# shellcheck shell=bash
# Sourced by everything in scripts/: paths, messages, and who PostgreSQL runs as.
set -euo pipefail
umask 022 # as root, the user postgres must be able to read what is made here

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
target=$root/target
logs=$target/log
pgrx_version=0.18.1
mkdir -p "$logs"

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# logged NAME COMMAND..: long output goes to target/log/NAME.log, its tail to the terminal on failure.
logged() {
    local log=$logs/$1.log
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "failed: $* (whole output: $log)"
    fi
}

apt_update() {
    [ -z "${apt_updated:-}" ] || return 0
    logged apt-update apt-get update
    apt_updated=1
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# PostgreSQL refuses to run as root, so as root its commands run as the user postgres.
as_db() {
    if is_root; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# private_dir NAME: the directory target/NAME, for what PostgreSQL itself reads. A clone below a directory
# that the user postgres cannot enter (/root, say) keeps it in /var/tmp, behind a link.
private_dir() {
    local dir=$target/$1
    if [ -L "$dir" ] && [ ! -d "$dir" ]; then rm "$dir"; fi # the place behind the link was cleaned away
    if [ ! -d "$dir" ]; then
        if is_root && ! as_db test -x "$target"; then
            local place
            place=$(mktemp -d "/var/tmp/llm_analytics.$1.XXXXXX")
            chmod 755 "$place"
            ln -s "$place" "$dir"
            say "the user postgres cannot enter $root: target/$1 is a link to $place"
        else
            mkdir -p "$dir"
        fi
    fi
    (cd "$dir" && pwd -P)
}

# The major to work on, in $major: that of PG_CONFIG where the caller names a server of their own, else $1.
choose_major() {
    major=${1:-15}
    if [ -n "${PG_CONFIG:-}" ]; then
        [ -x "$PG_CONFIG" ] || die "PG_CONFIG=$PG_CONFIG is not an executable"
        major=$("$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    fi
    check_major "$major"
}

check_major() {
    case "${1:-}" in
    15 | 16 | 17 | 18) ;;
    *) die "the PostgreSQL major must be 15, 16, 17 or 18, not '${1:-}'" ;;
    esac
}

# The pg_config of a major: the private prefix, or the server named by PG_CONFIG.
pg_config_of() { printf '%s\n' "${PG_CONFIG:-$target/pg/$1/bin/pg_config}"; }
