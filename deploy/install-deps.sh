#!/bin/sh
# Makes sure that the two servers that xcord runs as its children are on this machine: redis-server 7.0 or newer and
# PostgreSQL 14 or newer; and curl, with which the README's first conversation is held, also by its test. What is missing is installed from the system's packages when that is possible without asking
# (root, or sudo without a password), in such a way that no system service starts and no database cluster is made.
# Otherwise one line says what to install, and the exit code is 1. With everything in place it changes nothing.
set -eu

redis_min=7
postgres_min=14

say() { printf '%s\n' "$*" >&2; }

# major prints the first number of a program's --version, or 0.
major() {
	"$1" --version 2>/dev/null | sed -n "s/^$2\([0-9][0-9]*\).*/\1/p;q" | grep . || echo 0
}

have_redis() {
	command -v redis-server >/dev/null 2>&1 &&
		[ "$(major redis-server 'Redis server v=')" -ge "$redis_min" ]
}

# Debian and Red Hat keep the server's programs outside PATH; initdb must be beside postgres.
have_postgres() {
	for program in "$(command -v postgres 2>/dev/null || true)" /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres; do
		[ -x "$program" ] || continue
		program=$(readlink -f "$program")
		[ -x "${program%/*}/initdb" ] || continue
		[ "$(major "$program" 'postgres (PostgreSQL) ')" -ge "$postgres_min" ] && return 0
	done
	return 1
}

# missing prints the packages that are still needed.
missing() {
	have_redis || printf ' redis-server'
	have_postgres || printf ' postgresql'
	command -v curl >/dev/null 2>&1 || printf ' curl'
}

give_up() {
	say "xcord needs redis-server $redis_min.0 or newer, PostgreSQL $postgres_min or newer, and curl. Please install:$1  (Debian, Ubuntu: apt-get install --no-install-recommends$1)"
	exit 1
}

# undo puts back what install changed for its own duration; it runs at every exit.
undo() {
	[ -z "$policy" ] || rm -f "$policy"
	[ -z "$saved" ] || cp -p "$saved" "$cluster_conf"
	[ -z "$saved" ] || rm -f "$saved"
}

# apt is apt-get that never asks, keeps configuration that is there, and waits for another one to finish.
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" >&2
}

# install runs as root; its arguments are packages.
install() {
	policy='' saved=''
	cluster_conf=/etc/postgresql-common/createcluster.conf
	trap undo EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	# Packages ask this file whether they may start their services: 101 is no.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	apt update
	case " $* " in *' postgresql '*)
		# The file that says whether a cluster is made comes with this package, which makes none itself.
		apt install --no-install-recommends postgresql-common
		saved=$(mktemp)
		cp -p "$cluster_conf" "$saved"
		printf '\ncreate_main_cluster = false\n' >>"$cluster_conf"
		;;
	esac
	apt install --no-install-recommends "$@"
	# Not started now, and not at the next boot either.
	if command -v systemctl >/dev/null 2>&1; then
		for package in "$@"; do
			[ "$package" != curl ] || continue
			if [ -d /run/systemd/system ]; then
				systemctl disable --now "$package.service" >&2
			else
				systemctl disable "$package.service" >&2
			fi || say "could not disable $package.service; it may start at the next boot"
		done
	fi
}

if [ "${1-}" = --install ]; then
	shift
	install "$@"
	exit 0
fi

packages=$(missing)
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null 2>&1 || give_up "$packages"
say "installing$packages"
# The names are split on purpose.
# shellcheck disable=SC2086
if [ "$(id -u)" = 0 ]; then
	sh "$0" --install $packages || give_up "$packages"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
	sudo -n sh "$0" --install $packages || give_up "$packages"
else
	give_up "$packages"
fi
packages=$(missing)
[ -z "$packages" ] || give_up "$packages"
