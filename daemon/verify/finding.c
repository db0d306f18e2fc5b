#include "daemon/verify/finding.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/format/hash.h"

#define SIG_MAX_BYTES KIB(1)

const char *finding_name(enum finding_what what)
{
	static const char *const names[FINDING_N] = {
		[FINDING_MISSING] = "missing",         [FINDING_WRONG] = "wrong",
		[FINDING_UNSIGNED] = "unsigned",       [FINDING_NAR_MISSING] = "nar-missing",
		[FINDING_NAR_WRONG] = "nar-wrong",     [FINDING_DANGLING] = "dangling",
		[FINDING_OTHER_BUILD] = "other-build", [FINDING_UNCHECKED] = "unchecked",
	};

	return names[what];
}

const char *mend_name(enum finding_mend mend)
{
	static const char *const names[] = {
		[MEND_NONE] = "none",         [MEND_UPLOAD] = "upload",         [MEND_FORCE] = "upload",
		[MEND_OPERATOR] = "operator", [MEND_IMPOSSIBLE] = "impossible",
	};

	return names[mend];
}

static bool has_same_nar(const struct path_info *a, const struct path_info *b)
{
	return a->nar_size == b->nar_size && memcmp(a->nar_hash, b->nar_hash, SHA256_BYTES) == 0;
}

static bool has_same_references(const struct path_info *a, const struct path_info *b)
{
	if (a->n_references != b->n_references)
		return false;
	for (size_t i = 0; i < a->n_references; i++)
		if (strcmp(a->references[i], b->references[i]) != 0)
			return false;
	return true;
}

static bool judge_nar(struct finding *ret, const struct belief *belief, const struct path_info *is)
{
	const struct path_info *must = belief->info;
	char is_hash[SHA256_TEXT_SIZE], must_hash[SHA256_TEXT_SIZE];

	if (has_same_nar(is, must))
		return false;
	ret->what = belief->was_uploaded ? FINDING_WRONG : FINDING_OTHER_BUILD;
	snprintf(ret->text, sizeof(ret->text),
	         "the narinfo is of the NAR %s of %" PRIu64 " bytes, ours is %s of %" PRIu64 " bytes",
	         hash_format_sha256(is->nar_hash, is_hash), is->nar_size,
	         hash_format_sha256(must->nar_hash, must_hash), must->nar_size);
	return true;
}

static bool has_sig(const struct path_info *info, const char *sig)
{
	for (size_t i = 0; i < info->n_sigs; i++)
		if (strcmp(info->sigs[i], sig) == 0)
			return true;
	return false;
}

static bool has_sig_named(const struct path_info *info, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < info->n_sigs; i++)
		if (strncmp(info->sigs[i], name, len) == 0 && info->sigs[i][len] == ':')
			return true;
	return false;
}

/* The same key gives the same signature always: ours is made again, and looked for. */
static bool judge_signature(struct finding *ret, const struct belief *belief, const struct signing_key *key,
                            const struct path_info *is)
{
	CLEANUP(buf_fini) struct buf sig = { .max = SIG_MAX_BYTES };
	const char *name = signing_key_name(key);

	signature_format(&sig, key, is);
	if (!buf_ok(&sig) || has_sig(is, buf_text(&sig)))
		return false;
	if (!has_sig_named(is, name) && !(belief->was_uploaded && belief->must_be_signed))
		return false;
	ret->what = FINDING_UNSIGNED;
	snprintf(ret->text, sizeof(ret->text), "the narinfo has no %ssignature by our key %s",
	         has_sig_named(is, name) ? "valid " : "", name);
	return true;
}

bool finding_judge(struct finding *ret, const struct belief *belief, const struct narinfo *narinfo)
{
	const struct path_info *is = &narinfo->info;

	for (size_t i = 0; i < belief->n_keys; i++)
		if (judge_signature(ret, belief, belief->keys[i], is))
			return true;
	if (judge_nar(ret, belief, is))
		return true;
	if (has_same_references(is, belief->info))
		return false;
	/* The same NAR refers to the same paths: whoever wrote this was wrong. */
	ret->what = FINDING_WRONG;
	snprintf(ret->text, sizeof(ret->text),
	         "the narinfo names %zu references, and not the %zu that it has", is->n_references,
	         belief->info->n_references);
	return true;
}
