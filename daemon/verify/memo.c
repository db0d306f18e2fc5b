#include "daemon/verify/memo.h"

#include <stdint.h>
#include <string.h>

/* FNV; that somebody makes paths share a slot costs questions and nothing else. */
static size_t slot_of(const char *hash)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < STORE_HASH_LEN; i++)
		sum = (sum ^ (unsigned char)hash[i]) * 0x100000001b3u;
	return (sum ^ sum >> 32) % MEMO_SLOTS;
}

enum memo_answer memo_get(const struct memo *memo, const char *path)
{
	const char *hash = store_path_base(path);
	const struct memo_slot *slot = &memo->slots[slot_of(hash)];

	return memcmp(slot->hash, hash, STORE_HASH_LEN) == 0 ? (enum memo_answer)slot->answer : MEMO_UNKNOWN;
}

void memo_put(struct memo *memo, const char *path, enum memo_answer answer)
{
	const char *hash = store_path_base(path);
	struct memo_slot *slot = &memo->slots[slot_of(hash)];

	memcpy(slot->hash, hash, STORE_HASH_LEN);
	slot->answer = (unsigned char)answer;
}
