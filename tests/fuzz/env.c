/* Whatever the file of the hook's settings says, the settings that come out of it can be used. */
#include <string.h>

#include "common/protocol.h"
#include "hook/settings.h"
#include "tests/fuzz/fuzz.h"

static void check_path(const char *path)
{
	MUST(path == NULL || (path[0] == '/' && strlen(path) < 4096));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings settings;
	struct buf mistakes;

	settings_init(&settings);
	buf_init(&mistakes, 4096);
	settings.file = malloc(size + 1);
	MUST(settings.file != NULL);
	memcpy(settings.file, data, size);
	settings.file[size] = '\0';
	settings_read_text(&settings, "file", settings.file, size, &mistakes);
	check_path(settings.socket);
	check_path(settings.spool);
	check_path(settings.gcroots);
	MUST(settings.gcroots != NULL);
	MUST(settings.tag == NULL || (settings.tag[0] != '\0' && strlen(settings.tag) <= REQUEST_MAX_VALUE));
	MUST(settings.timeout_ms >= 1 && settings.timeout_ms <= SETTINGS_TIMEOUT_MS_MAX);
	buf_fini(&mistakes);
	settings_fini(&settings);
	return 0;
}
