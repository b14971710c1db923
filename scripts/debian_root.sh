# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Make and enter clean minimal Debian systems, for scripts that check an installation as a user sees it. Source this file
# from the root of the checkout.

# The packages that the README expects a user to have.
start=python3,git,ca-certificates
places=${XDG_CACHE_HOME:-$HOME/.cache}/iommufd-py/distributions
# The Debian systems use the network configuration of this machine.
network=(/etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt)
# debootstrap takes minutes, so its result is kept for a week and copied.
fresh_days=7

need_root() { # PROGRAM
    if ((EUID != 0)); then
        echo "$1: only root can make and enter a root directory; run it with sudo" >&2
        exit 4
    fi
    command -v debootstrap >/dev/null || scripts/install_packages debootstrap >&2
}

debian_mirror() { # SUITE: print the URI of the mirror that this machine uses for it
    python -c '
import sys
from iommufd_py.lab.apt import mirror, system_archives
found = mirror(system_archives(), sys.argv[1])
sys.exit("this machine has no mirror of Debian in /etc/apt") if found is None else print(found.uri)' "$1"
}

make_base() { # SUITE: a minimal system in $places/SUITE/base
    local base=$places/$1/base mirror file
    [[ -z $(find "$base" -maxdepth 0 -mtime "-$fresh_days" 2>/dev/null) ]] || return 0
    mirror=$(debian_mirror "$1") || return
    rm -rf --one-file-system "$base" "$base.new" || return
    mkdir -p "$base.new" || return
    debootstrap --variant=minbase --include="$start" "$1" "$base.new" "$mirror" >&2 || return
    for file in "${network[@]}"; do
        [[ ! -e $file ]] || install -D -m 644 "$file" "$base.new$file" || return
    done
    apt-config dump Acquire | grep -E '^Acquire::(https?|Force|Retries|Check-Valid-Until)\b' \
        >"$base.new/etc/apt/apt.conf.d/99host" || true
    touch "$base.new" && mv "$base.new" "$base"
}

make_root() { # SUITE NAME: a clean system in $places/SUITE/NAME
    make_base "$1" || return
    rm -rf --one-file-system "${places:?}/$1/$2" || return
    cp -a --reflink=auto "$places/$1/base" "$places/$1/$2"
}

enter_root() { # ROOT COMMAND...: with the mounts and variables that a system has; they end with the command
    local root=$1 variable environment=(HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive)
    shift
    environment+=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    while IFS= read -r variable; do
        environment+=("$variable")
    done < <(env | grep -iE '^(https?_proxy|no_proxy|PIP_[A-Z_]+)=' || true)
    # Some programs require that their root is a mount point. A program below chroot may make no user namespace, so the
    # root of the mount namespace itself changes.
    unshare --mount sh -ec '
        root=$0
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        if [ -n "$ROOT_CACHE" ]; then
            mkdir -p "$ROOT_CACHE" "$root/root/.cache/iommufd-py"
            mount --rbind "$ROOT_CACHE" "$root/root/.cache/iommufd-py"
        fi
        cd "$root"
        pivot_root . .
        umount --lazy .
        cd /
        exec env -i "$@"' "$root" "${environment[@]}" "$@"
}
