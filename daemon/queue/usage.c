#include "daemon/queue/internal.h"

void usage_sum(struct usage_change *to, const struct usage_change *change)
{
	to->uploaded += change->uploaded;
	to->uploaded_bytes += change->uploaded_bytes;
	to->present += change->present;
	to->in_upstream += change->in_upstream;
	to->withheld += change->withheld;
	to->failed += change->failed;
}

int usage_add(struct queue_db *q, int64_t cache_id, int64_t now, const struct usage_change *change,
              struct error *err)
{
	STMT(st, q->db,
	     "INSERT INTO usage (cache, day, uploaded, uploaded_bytes, present, in_upstream, withheld, "
	     "failed)"
	     " VALUES (:cache, :day, :uploaded, :bytes, :present, :upstream, :withheld, :failed)"
	     " ON CONFLICT DO UPDATE SET uploaded = uploaded + :uploaded,"
	     " uploaded_bytes = uploaded_bytes + :bytes, present = present + :present,"
	     " in_upstream = in_upstream + :upstream, withheld = withheld + :withheld,"
	     " failed = failed + :failed");
	int number = endpoint_number(q, cache_id);

	if (number != NO_NUMBER)
		usage_sum(&q->op.usage[number], change);
	stmt_bind_int(st, ":cache", cache_id);
	stmt_bind_int(st, ":day", now / 86400);
	stmt_bind_int(st, ":uploaded", (int64_t)change->uploaded);
	stmt_bind_int(st, ":bytes", (int64_t)change->uploaded_bytes);
	stmt_bind_int(st, ":present", (int64_t)change->present);
	stmt_bind_int(st, ":upstream", (int64_t)change->in_upstream);
	stmt_bind_int(st, ":withheld", (int64_t)change->withheld);
	stmt_bind_int(st, ":failed", (int64_t)change->failed);
	return stmt_run(st, err);
}
