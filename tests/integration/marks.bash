# Words that no place may show. Each is random and stands for a secret; a test that searches for them first sees that
# they were used. Loaded beside common.bash.
# shellcheck shell=bash

# What a search looks for: plain words, and what HTTP makes of a user and a password.
MARKS=()

# mark NAME: sets NAME to a new word that is searched for.
mark() {
	printf -v "$1" 'mark%s' "$(od -An -N9 -tx1 /dev/urandom | tr -d ' \n')"
	MARKS+=("${!1}")
}

# holds_a_mark WHERE...: files with a mark in them, with the first mark found.
holds_a_mark() {
	printf '%s\n' "${MARKS[@]}" >"$T/etc/marks"
	grep -raoFf "$T/etc/marks" "$@"
}

no_mark_in() {
	local status=0
	holds_a_mark "$@" >"$T/etc/found" || status=$?
	sort -u "$T/etc/found"
	[ $status -eq 1 ] # searched, and found nothing
}

# argv_of_all: of every process but the servers of the test, which are told on theirs what to take.
argv_of_all() {
	local file
	for file in /proc/[0-9]*/cmdline; do
		tr '\0' ' ' 2>/dev/null <"$file" | grep -av /tests/support/ || true
	done
}
