#!/usr/bin/env bats
# Hooks of several processes, a cache with faults, and daemons killed at moments of no choice: tests/soak.

load common

setup() {
	:
}

teardown() {
	:
}

@test "twenty rounds of hooks, faults and killed daemons lose nothing" {
	timeout 300 "$TOP/tests/soak/soak" --build "$B" 20 3>&-
}
