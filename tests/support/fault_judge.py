"""Is what was seen of a row's cache what its row demands? For fault_matrix.py.

Three things are judged beside the end: how long a silent cache is borne, and a job or a cache put off, against what
daemon/plan/backoff.h and daemon/plan/breaker.h say; how many requests were made, by operation and path; and what
became of the other paths. No bound but BORNE_MAX_S depends on how fast the machine is: what the server saw is older
than what the daemon then says of it, and what the daemon says is older than the moment at which its answer is here.
What is put off lies between the two.
"""
import datetime
import re

from fault_server import ASK_CACHE_INFO, ASK_INFO, PUT_NAR, lie
from fault_table import DONE, PERMANENT, SMALL, STALL_TIMEOUT_S, TRANSIENT

OPERATOR_S = (60, 300, 900, 1800)
BACKOFF_MAX_S, BREAKER_MAX_S = 900, 300
NEAR_S = 60
BORNE_MAX_S = 30  # what is to be STALL_TIMEOUT_S; the default is 60 s, and no machine is so slow
LATE_S = 0.2  # a server that sees the beginning late; one that always does so is too slow for anything
CACHE_INFO = "nix-cache-info"


class Seen:
    """What the server knows of a cache; taken before the daemon is asked."""

    def __init__(self, cache, port):
        self.requests = dict(cache.requests)
        self.asked_unix_s = dict(cache.asked_unix_s)
        self.lasted_s = cache.lasted_s + (port.lasted_s if port else [])
        self.wrong = list(cache.wrong)
        self.objects = set(cache.objects)
        # Whoever tries whether a cache works connects, and asks for this first.
        self.n_tries = port.n_connections if port else self.requests.get((ASK_CACHE_INFO, CACHE_INFO), 0)
        self.tried_unix_s = port.connected_unix_s if port else max(self.asked_unix_s.values(), default=0)
        self.n_requests = sum(self.requests.values()) or self.n_tries

    def count(self, keys):
        """By operation."""
        return {operation: n for (operation, key), n in self.requests.items() if key in keys}


class Look:
    """At ROW: JOBS by path, and CACHE as `status` shows it, had come by UNIX_S. NAMES are those of all paths."""

    def __init__(self, row, seen, jobs, cache, names, unix_s):
        self.row, self.seen, self.jobs, self.cache, self.unix_s = row, seen, jobs, cache, unix_s
        self.names = names
        self.struck, self.referrer, *self.others = names
        self.job = jobs.get(self.struck)

    def problem(self):
        """Why ROW is not as it should be, or None."""
        if self.job is None or len(self.jobs) < len(self.names):
            return "not queued"
        return (next(iter(self.seen.wrong), None) or self.wrong_end() or self.wrong_others() or self.wrong_belief() or
                self.wrong_wait() or self.wrong_counts())

    def is_under_way(self):
        """Then nobody knows yet how long it will have to wait next."""
        if self.row.is_whole:
            return self.cache["in_flight"] > 0 or self.row.end != DONE and self.cache.get("next_try") is None
        return self.row.end[0] == "delayed" and self.job["state"] != "delayed"

    def is_near(self):
        """Will it be tried again soon, without anybody's doing?"""
        if self.row.end != TRANSIENT or self.row.stays:
            return False
        due = self.cache.get("next_try") if self.row.is_whole else self.job["not_before"]
        return due is None or unix_s(due) - self.unix_s <= NEAR_S

    # ---- the ends

    def wrong_end(self):
        # Where the fault is the whole cache's, its jobs are ready, say why they wait, and it is tried by itself.
        state = "delayed" if self.job["state"] == "ready" and self.job["kind"] else self.job["state"]
        seen = (state, self.job["kind"] if state != "done" else None)
        if seen != self.row.end:
            return "%s: %s" % (seen, self.job["text"])
        if self.row.end != DONE and not re.search(self.row.text, self.job["text"]):
            return "is explained by: " + self.job["text"]
        return None

    def wrong_others(self):
        """What refers to the struck path waits for it, with its NAR there; the rest goes on."""
        if self.row.is_whole:
            return None
        waits = {DONE: "done", PERMANENT: "blocked"}.get(self.row.end, "sent")
        for path in (self.referrer, *self.others):
            if self.jobs[path]["state"] != (waits if path == self.referrer else "done"):
                return "%s is %s: %s" % (path, self.jobs[path]["state"], self.jobs[path]["text"])
        return None

    def wrong_belief(self):
        """What is done is there."""
        for path, keys in self.names.items():
            is_lied_to = path == self.struck and self.row.fault is lie
            if self.jobs[path]["state"] == "done" and not keys <= self.seen.objects and not is_lied_to:
                return "%s is done, and is not there" % path
        return None

    # ---- how long

    def wrong_wait(self):
        longest_s = max(self.seen.lasted_s, default=0)
        is_seen = self.row.is_silent and self.row.where != "nowhere"
        if is_seen and not STALL_TIMEOUT_S - LATE_S <= longest_s <= BORNE_MAX_S:
            return "was not borne for stall-timeout, but for %s s" % self.seen.lasted_s
        if self.row.end[0] != "delayed" or self.is_under_way():
            return None
        return self.wrong_next_try() if self.row.is_whole else self.wrong_not_before()

    def wrong_not_before(self):
        least, most = backoff_s(self.job["kind"], self.job["attempts"], self.row.retry_after_s)
        asked = max(self.seen.asked_unix_s.get(key, 0) for key in self.names[self.struck])
        return self.wrong_time(unix_s(self.job["not_before"]), asked + least, self.unix_s + most)

    def wrong_next_try(self):
        kind, after = self.job["kind"], self.row.retry_after_s
        least, _ = breaker_s(kind, max(self.seen.n_tries - 1, 0), after)
        _, most = breaker_s(kind, self.n_probes_max(), after)
        tried = max(self.seen.tried_unix_s, unix_s(self.cache["since"]))
        # It is given as the sum of two times, either of them rounded down.
        return self.wrong_time(unix_s(self.cache["next_try"]), tried + least - 1, self.unix_s + most)

    def wrong_time(self, time, least, most):
        if int(least) <= time <= most:
            return None
        return "is tried again %.1f s from now, which should be %.1f to %.1f s" % (
            time - self.unix_s, least - self.unix_s, most - self.unix_s)

    def n_probes_max(self):
        """How many can have failed since the cache is known not to work?"""
        out_s = self.unix_s - unix_s(self.cache["since"])
        return n_probes_max(self.job["kind"], out_s, self.row.retry_after_s)

    # ---- how many

    def wrong_counts(self):
        if self.row.is_whole and self.row.end != DONE:
            return self.wrong_tries()
        for path, keys in self.names.items():
            problem = self.wrong_counts_of(path, self.seen.count(keys))
            if problem:
                return problem
        return None

    def wrong_tries(self):
        """One at first, one for each probe, and one that may be under way."""
        most = self.n_probes_max() + 2 if self.cache.get("since") else self.seen.n_tries
        if self.seen.n_tries == 0 and self.row.where not in ("refused", "nowhere"):
            return "was not tried"
        for what, n in [("connections or GET nix-cache-info", self.seen.n_tries), *self.seen.requests.items()]:
            if n > most:
                return "%d times %s, at most %d are explained by its probes" % (n, what, most)
        return None

    def wrong_counts_of(self, path, counts):
        job, exact = self.jobs[path], self.counts_of(path)
        n_attempts = self.row.n_attempts if path == self.struck else 0
        is_steady = not self.row.is_silent and self.row.n_again == 0
        if exact is not None and (job["attempts"] == n_attempts or is_steady):
            n_more = sum(counts.values()) - sum(exact.values())
            is_so = n_more <= self.row.n_again and all(counts.get(what, 0) >= n for what, n in exact.items())
            return None if is_so else "%s has %s, and should have %s" % (path, counts, exact)
        if path == self.struck and not self.row.strikes & set(counts):
            return "was not struck: %s" % counts
        n_attempts = job["attempts"] + (job["state"] not in ("delayed", "failed"))
        for operation, n in counts.items():
            most = n_attempts * self.row.each.get(operation, 1) + self.row.n_again
            if n > most:
                return "%s: %d times %s, at most %d are explained by its attempts" % (path, n, operation, most)
        return None

    def counts_of(self, path):
        """What is certain to be seen, or None."""
        if path == self.struck:
            return self.row.counts
        if path == self.referrer and self.row.end != DONE:
            return {ASK_INFO: 1, PUT_NAR: 1}
        return SMALL


def unix_s(date):
    return datetime.datetime.fromisoformat(date).timestamp()


def backoff_s(kind, n_attempts, retry_after_s):
    """The least and the most that a job is put off after so many attempts."""
    ceiling = min(2 ** min(n_attempts, 20), BACKOFF_MAX_S)
    if kind == "operator":
        return 2 * (OPERATOR_S[min(n_attempts, len(OPERATOR_S)) - 1],)
    return (retry_after_s, retry_after_s + min(ceiling, retry_after_s // 4)) if retry_after_s else (1, ceiling)


def breaker_s(kind, n_probes, retry_after_s):
    """The same for a cache, after so many probes that failed."""
    if kind == "operator":
        return 2 * (OPERATOR_S[min(n_probes, len(OPERATOR_S) - 1)],)
    ceiling = min(2 ** min(n_probes + 1, 20), BREAKER_MAX_S)
    return (retry_after_s, retry_after_s * 1.25) if retry_after_s else (ceiling / 2, ceiling)


def n_probes_max(kind, out_s, retry_after_s):
    """How many probes fit into OUT_S, if each came as soon as it may."""
    n = 0
    while (out_s := out_s - breaker_s(kind, n, retry_after_s)[0]) >= 0:
        n += 1
    return n
