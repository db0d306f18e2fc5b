/* Settings that load are written as settings that load to the same; messages are plain text. */
#include <unistd.h>

#include "daemon/config/config.h"
#include "tests/fuzz/fuzz.h"

static const struct config_places places = { .config_file = "/nowhere/nncache.conf" };

static int load(struct config **ret, const char *text, size_t len, struct buf *messages)
{
	return config_load_text(ret, &places, "file", text, len, false, messages);
}

static void check_messages(const struct buf *messages)
{
	MUST(buf_ok(messages) && messages->len > 0 && messages->data[messages->len - 1] == '\n');
	for (const char *p = messages->data; *p != '\0'; p++)
		MUST((*p >= 0x20 && *p < 0x7f) || *p == '\n');
}

static void check_config(const struct config *config)
{
	MUST(config->n_caches + config->n_upstreams <= CONFIG_MAX_ENDPOINTS);
	MUST(config->n_priorities <= CONFIG_MAX_PRIORITIES);
	MUST(config->socket != NULL && config->state_dir[0] == '/' && config->spool_dir[0] == '/');
	MUST(config->gcroots_dir[0] == '/' && config->store != NULL);
	for (size_t i = 0; i < config->n_caches; i++) {
		const struct cache_config *cache = &config->caches[i];

		MUST(cache->url != NULL && cache->identity != NULL);
		MUST(config_find_cache(config, cache->name) == cache);
		MUST(cache->upload_jobs >= 1 && cache->stall_timeout_ms > 0);
		for (size_t j = 0; j < cache->upstreams.n; j++)
			MUST(config_find_upstream(config, cache->upstreams.items[j]) != NULL);
	}
}

/* What is derived may be longer than a line of a file. */
static bool has_long_line(const char *text)
{
	for (; *text != '\0'; text += strcspn(text, "\n") + 1)
		if (strcspn(text, "\n") > 198)
			return true;
	return false;
}

static void write_and_read_again(const struct config *config)
{
	struct buf first, second, messages;
	struct config *again;

	buf_init(&first, MIB(4));
	buf_init(&second, MIB(4));
	buf_init(&messages, KIB(64));
	config_format(config, &first);
	MUST(buf_ok(&first));
	if (!has_long_line(first.data)) {
		MUST(load(&again, first.data, first.len, &messages) == 0);
		check_config(again);
		config_format(again, &second);
		MUST(again->n_caches == config->n_caches && again->n_upstreams == config->n_upstreams);
		for (size_t i = 0; i < config->n_caches; i++)
			MUST(strcmp(config->caches[i].identity, again->caches[i].identity) == 0);
		config_free(again);
	}
	buf_fini(&first);
	buf_fini(&second);
	buf_fini(&messages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	struct config *config;
	struct buf messages;

	buf_init(&messages, KIB(64));
	if (load(&config, text, size, &messages) == 0) {
		MUST(messages.len == 0);
		check_config(config);
		write_and_read_again(config);
		config_free(config);
	} else {
		check_messages(&messages);
	}
	buf_fini(&messages);
	free(text);
	return 0;
}
