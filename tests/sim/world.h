/* One run: builds, hooks, an operator, the garbage collector, faults, and the daemon's lives and deaths, all
 * from one seed; at its end everything is healed, and every promise must be kept.
 * Thread: the one there is. */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

/* Below DIR, which is there and empty. Returns when all holds; else the process ends (violated). Once in a
 * process. */
void world_run(const char *dir);

#endif
