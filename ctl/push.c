/* push: what is named becomes store paths, these are handed over, and waited for. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "ctl/connect.h"
#include "ctl/model.h"
#include "ctl/paths.h"

/* What a request has beside its paths: first and last line, tag, caches. */
#define REQUEST_ROOM_BYTES 32768

static int add_word(const char *word, struct path_list *list)
{
	char path[STORE_PATH_SIZE];
	struct error err;

	if (paths_resolve(word, paths_store_dir(), path, &err) < 0 || path_list_add(list, path, &err) < 0) {
		ctl_say("%s", err.text);
		return CTL_USAGE;
	}
	return CTL_DONE;
}

static int add_stdin(struct path_list *list)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int status = CTL_DONE;

	while ((n = getline(&line, &size, stdin)) >= 0) {
		while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL)
			line[--n] = '\0';
		if (n > 0 && add_word(line, list) != CTL_DONE)
			status = CTL_USAGE;
	}
	if (ferror(stdin) != 0) {
		ctl_say("standard input: %s", strerror(errno));
		status = CTL_FAILED;
	}
	free(line);
	return status;
}

int paths_of_operands(const struct ctl *ctl, bool use_stdin, struct path_list *ret)
{
	int status = CTL_DONE;

	*ret = (struct path_list){ 0 };
	for (size_t i = 0; i < ctl->args.n_operands; i++)
		if (add_word(ctl->args.operands[i], ret) != CTL_DONE)
			status = CTL_USAGE;
	if (use_stdin && status == CTL_DONE)
		status = add_stdin(ret);
	path_list_sort(ret);
	return status;
}

size_t paths_chunk(const struct path_list *list, size_t first, const char *ret[REQUEST_MAX_PATHS])
{
	size_t n_bytes = 0, n = 0;

	while (n < REQUEST_MAX_PATHS && first + n < list->n) {
		n_bytes += strlen(list->items[first + n]) + strlen("path \n");
		if (n_bytes > REQUEST_MAX_BYTES - REQUEST_ROOM_BYTES)
			break;
		ret[n] = list->items[first + n];
		n++;
	}
	return n;
}

static int push_chunk(struct ctl *ctl, const struct request *req, struct push_result *result)
{
	struct call call = { 0 };
	enum call_result rc = call_run(&call, ctl->socket, req, NULL, NULL);
	int status = call_explain(ctl, &call, rc);

	if (rc == CALL_OK) {
		json_array_append_new(result->request_ids,
		                      json_integer(record_get_int(&call.answer.fields, "request")));
		result->n_new += record_get_uint(&call.answer.fields, "new");
	}
	call_close(&call);
	return status;
}

int push_run(struct ctl *ctl, const struct path_list *list, const struct request *base,
             struct push_result *result)
{
	int status = CTL_DONE;

	result->request_ids = json_array();
	for (size_t i = 0; i < list->n && status == CTL_DONE;) {
		const char *chunk[REQUEST_MAX_PATHS];
		struct request req = *base;

		req.verb = VERB_PUSH;
		req.paths = chunk;
		req.n_paths = paths_chunk(list, i, chunk);
		i += req.n_paths;
		status = push_chunk(ctl, &req, result);
	}
	return status;
}

static int report_accepted(struct ctl *ctl, const struct path_list *list, json_t *model)
{
	if (ctl->json)
		return output_json(model, JSON_INDENT(2)) < 0 ? CTL_FAILED : CTL_DONE;
	json_decref(model);
	printf("%zu %s accepted.\n", list->n, list->n == 1 ? "path is" : "paths are");
	return CTL_DONE;
}

static int push_list(struct ctl *ctl, const struct path_list *list)
{
	struct request base = { .tag = args_get(&ctl->args, "tag"), .force = args_has(&ctl->args, "force") };
	struct push_result pushed = { 0 };
	struct wait_result waited = { 0 };
	json_t *model;
	int status = ctl_get_caches(ctl, "to", &base);

	if (status != CTL_DONE)
		return status;
	status = push_run(ctl, list, &base, &pushed);
	model = json_pack("{s:o, s:I, s:I}", "requests", pushed.request_ids, "paths", (json_int_t)list->n,
	                  "new", (json_int_t)pushed.n_new);
	if (status == CTL_DONE && args_has(&ctl->args, "no-wait"))
		return report_accepted(ctl, list, model);
	if (status == CTL_DONE)
		status = wait_for_list(ctl, list, 0, &waited);
	return wait_report(ctl, status, &waited, model);
}

int ctl_push(struct ctl *ctl)
{
	bool use_stdin = args_has(&ctl->args, "stdin");
	struct path_list list;
	int status;

	if (ctl->args.n_operands == 0 && !use_stdin)
		return ctl_usage(ctl, "push what? a store path, a link into the store, or --stdin");
	status = paths_of_operands(ctl, use_stdin, &list);
	if (status == CTL_DONE)
		status = push_list(ctl, &list);
	path_list_fini(&list);
	return status;
}
