/* XML of S3 and STS fits its fields, times are times; a credentials file gives whole lines or nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "daemon/backend/aws_keys.h"
#include "daemon/backend/aws_remote.h"
#include "daemon/backend/xml.h"
#include "tests/fuzz/fuzz.h"

static void check_field(const struct xml_field *field, bool is_xml)
{
	size_t len = strnlen(field->text, field->size);

	MUST(len < field->size);
	MUST(is_xml || (len == 0 && !field->is_cut));
	MUST(!field->is_cut || len == field->size - 1);
}

static void check_xml(const char *text, size_t len)
{
	char code[8], words[64], root[XML_NAME_SIZE];
	struct xml_field fields[] = { { .name = "Code", .text = code, .size = sizeof(code) },
		                      { .name = "Message", .text = words, .size = sizeof(words) } };
	bool is_xml = xml_read(text, len, root, fields, N_ELEMENTS(fields));

	MUST(strnlen(root, sizeof(root)) < sizeof(root));
	MUST(is_xml == (root[0] != '\0'));
	/* There is no way to name an entity but XML's own five. */
	MUST(!is_xml || memmem(text, len, "<!DOCTYPE", 9) == NULL || memmem(text, len, "<!--", 4) != NULL ||
	     memmem(text, len, "<![CDATA[", 9) != NULL || memmem(text, len, "<?", 2) != NULL);
	for (size_t i = 0; i < N_ELEMENTS(fields); i++)
		check_field(&fields[i], is_xml);
}

static void check_time(const char *text)
{
	int64_t unix_s = 7;

	if (!aws_parse_time(text, &unix_s))
		MUST(unix_s == 7);
	else
		MUST(unix_s < INT64_C(400000000000));
}

static void check_value(const char *value)
{
	MUST(value == NULL || strpbrk(value, "\n") == NULL);
}

static void check_profile(const char *file, const char *name, bool is_config)
{
	struct aws_profile profile = { 0 };
	struct aws_keys *keys;
	struct error err;
	int rc = aws_profile_read(&profile, file, name, is_config, &err);

	MUST(rc != 0 || (profile.key_id == NULL && profile.secret == NULL && profile.region == NULL));
	check_value(profile.key_id);
	check_value(profile.secret);
	check_value(profile.token);
	check_value(profile.region);
	check_value(profile.role_arn);
	if (rc == 1 &&
	    aws_keys_new(&keys, "file", profile.key_id, profile.secret, profile.token, &err) == 0) {
		MUST(strpbrk(keys->id, " \t\r\n\033") == NULL &&
		     strpbrk(keys->secret, " \t\r\n\033") == NULL);
		aws_keys_unref(keys);
	}
	aws_profile_fini(&profile);
}

static void check_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("aws", MFD_CLOEXEC);
	char path[64];

	MUST(fd >= 0 && write_full(fd, data, size) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	check_profile(path, "default", false);
	check_profile(path, "a", true);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);

	check_xml(text, size);
	check_time(text);
	check_file(data, size);
	free(text);
	return 0;
}
