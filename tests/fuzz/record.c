/* A record or an answer that parses says the same when written and read again. */
#include <string.h>

#include "common/protocol.h"
#include "tests/fuzz/fuzz.h"

static char *copy_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	MUST(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

static void write_record(struct buf *out, const struct record *record)
{
	record_begin(out, record->word);
	for (size_t i = 0; i < record->n_fields; i++)
		record_text(out, record->fields[i].key, record->fields[i].value);
	MUST(buf_ok(out));
}

static void check_record(char *line)
{
	struct record record, again;
	struct error err;
	struct buf out;

	if (record_parse(&record, line, &err) < 0)
		return;
	buf_init(&out, 1 << 20);
	write_record(&out, &record);
	MUST(record_parse(&again, out.data, &err) == 0);
	MUST(again.n_fields == record.n_fields && strcmp(again.word, record.word) == 0);
	for (size_t i = 0; i < record.n_fields; i++) {
		MUST(strcmp(again.fields[i].key, record.fields[i].key) == 0);
		MUST(strcmp(again.fields[i].value, record.fields[i].value) == 0);
		record_get_int(&record, record.fields[i].key);
		record_get_uint(&record, record.fields[i].key);
	}
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = copy_text(data, size), *other = copy_text(data, size);
	bool is_last = answer_is_last(line);
	struct answer answer;
	struct error err;

	check_record(line);
	if (answer_parse(&answer, other, &err) == 0)
		MUST(is_last && answer.text != NULL);
	free(line);
	free(other);
	return 0;
}
