#!/usr/bin/env bats
# What becomes of a job for every fault that a cache can have: the tables are in fault_table.py.

load common

run_matrix() {
	local struck referrer other third
	other=$(make_path other 3000)
	struck=$(make_path struck 1200000 "$other") # large enough to be asked for before it is sent
	referrer=$(make_path referrer 64 "$struck")
	third=$(make_path third)
	write_config "file://$T/cache"
	python3 "$TOP/tests/support/fault_matrix.py" "$1" "$B" "$T" "$struck" "$referrer" "$other" "$third" 3>&-
}

@test "each answer has its end, spares other paths and caches, and loses nothing" {
	run_matrix answers
}

@test "each broken connection has its end, spares other paths and caches, and loses nothing" {
	run_matrix connections
}
