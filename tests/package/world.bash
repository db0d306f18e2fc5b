# What scripts in tests/package/throwaway say: Nix for one user, in a fresh store; nncache fills /tmp/cache.
# shellcheck shell=bash disable=SC2034 # the scripts use it

HOOK_LINE='post-build-hook = /usr/lib/nncache/hook'
mkdir -p /etc/nix
printf '%s\n' 'sandbox = false' 'build-users-group =' 'substituters =' >/etc/nix/nix.conf

install_package() {
	dpkg --no-triggers --install nncache.deb
}

# purge_package [remove]
purge_package() {
	dpkg --no-triggers --"${1:-purge}" nncache
}

# As the unit does it: as its user, who reaches the store by nix-daemon.
start_nncached() {
	local command
	nix-daemon &
	install -d -o nncache -g nncache cache /run/nncache /nix/var/nix/gcroots/nncache
	install -d -o nncache -g nncache -m 700 /var/lib/nncache
	printf '%s\n' '[cache "local"]' 'url = file:///tmp/cache' 'sign = no' 'upstreams =' >/etc/nncache/nncache.conf
	read -ra command < <(sed -n 's/^ExecStart=//p' "$(dpkg -L nncache | grep '/system/nncached.service$')")
	setpriv --reuid=nncache --regid=nncache --init-groups "${command[@]}" &
	NNCACHED=$!
}

build() {
	nix-build --no-out-link path.nix --argstr name "$1"
}

wait_until() {
	local n_left=300
	until "$@"; do
		n_left=$((n_left - 1))
		[ $n_left -gt 0 ] || { echo "waited in vain for: $*"; return 1; }
		sleep 0.1
	done
}

# refuses COMMAND...: fails, and what it says is in $said.
refuses() {
	if said=$("$@" 2>&1); then
		echo "went well, and should not: $*"
		return 1
	fi
	echo "$said"
}
