/* The spool: requests that a hook could not hand over. A file is read, committed, then unlinked; what
 * does not parse, or is not from whom it should be, is set aside as NAME.bad. Inotify says when to look;
 * a timer looks again, since events can be lost.
 *
 * A pass goes through the directory once, however many files there are: it reads some names, takes those in,
 * oldest first, and reads the next. What cannot be taken in now it leaves behind, so that nothing waits for
 * it; the next pass tries again. A pass that took something in is followed by another at once. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/crash.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/protocol.h"
#include "common/spool.h"
#include "daemon/intake/parts.h"

#define RESCAN_MS         30000
#define LEFT_OVER_AFTER_S 86400

struct spool_file {
	struct intake *intake;
	char name[SPOOL_NAME_SIZE];
	struct request request;
	struct intake_handover handover;
};

static void take_in_more(struct intake *intake);

static void file_free(struct spool_file *file)
{
	request_fini(&file->request);
	free(file);
}

/* A file waits no more. It may have come after they were counted. */
static void wait_ended(struct spool *spool)
{
	if (spool->n_waiting > 0)
		spool->n_waiting--;
}

static void set_aside(struct intake *intake, const char *name, const char *why)
{
	const char *dir = intake->config->spool_dir;
	char from[4096], to[4096];

	snprintf(from, sizeof(from), "%s/%s", dir, name);
	snprintf(to, sizeof(to), "%s/%s.bad", dir, name);
	log_error("spool file set aside file=%s: %s", to, why);
	if (rename(from, to) < 0) {
		log_error("spool file cannot be renamed file=%s: %s", from, strerror(errno));
		return;
	}
	wait_ended(&intake->spool);
	intake->spool.n_bad++;
	intake->on_news(intake->ctx);
}

static int name_remove(const struct intake *intake, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", intake->config->spool_dir, name);
	return unlink(path) < 0 && errno != ENOENT ? -1 : 0;
}

/* One that cannot be removed would be taken in again at once, and for ever. */
static void file_remove(const struct spool_file *file)
{
	struct spool *spool = &file->intake->spool;

	wait_ended(spool);
	if (name_remove(file->intake, file->name) == 0)
		return;
	log_error("spool file cannot be removed file=%s/%s: %s", file->intake->config->spool_dir, file->name,
	          strerror(errno));
	assert(spool->n_kept < SPOOL_AT_ONCE);
	memcpy(spool->kept[spool->n_kept++], file->name, sizeof(file->name));
}

static bool is_kept(const struct spool *spool, const char *name)
{
	for (size_t i = 0; i < spool->n_kept; i++)
		if (strcmp(spool->kept[i], name) == 0)
			return true;
	return false;
}

/* Tries once more to remove what is kept. */
static void remove_kept(struct intake *intake)
{
	struct spool *spool = &intake->spool;
	size_t n = 0;

	for (size_t i = 0; i < spool->n_kept; i++) {
		if (name_remove(intake, spool->kept[i]) == 0)
			continue;
		if (n < i)
			memcpy(spool->kept[n], spool->kept[i], sizeof(spool->kept[i]));
		n++;
	}
	spool->n_kept = n;
}

static void on_taken_in(struct intake_handover *handover)
{
	struct spool_file *file = CONTAINER_OF(handover, struct spool_file, handover);
	struct intake *intake = file->intake;
	bool again = false;

	if (handover->err.kind == ERROR_NONE) {
		crash_point(SPOOL_TAKEN);
		log_info("spool file taken in file=%s paths=%zu", file->name, handover->n_paths);
		file_remove(file);
		crash_point(SPOOL_UNLINKED);
	} else if (handover->err.kind == ERROR_PERMANENT) {
		set_aside(intake, file->name, handover->err.text);
	} else {
		log_warning("spool file stays file=%s: %s, retrying in %ds", file->name, handover->err.text,
		            RESCAN_MS / 1000);
		again = true;
	}
	file_free(file);
	if (--intake->spool.n_running == 0) {
		intake->on_news(intake->ctx);
		if (!again)
			take_in_more(intake);
	}
	intake_maybe_closed(intake);
}

/* The regular file NAME of an owner that we take requests from. CANCELED: somebody took it away. */
static int file_read(struct intake *intake, const char *name, char **ret, size_t *ret_len, uint32_t *ret_uid,
                     struct error *err)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", intake->config->spool_dir, name);
	if (lstat(path, &st) < 0)
		return error_set(err, errno == ENOENT ? ERROR_CANCELED : ERROR_TRANSIENT, "%s",
		                 strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_PERMANENT, "not a regular file");
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return error_set(err, ERROR_PERMANENT, "owned by uid %u, neither root nor us", st.st_uid);
	if (st.st_size > REQUEST_MAX_BYTES)
		return error_set(err, ERROR_PERMANENT, "larger than a request may be");
	*ret_uid = st.st_uid;
	return read_file(path, REQUEST_MAX_BYTES, ret, ret_len, err);
}

static uint64_t cache_bits(const struct intake *intake, const struct request *request, struct error *err)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < request->n_caches; i++) {
		const struct cache_config *cache = config_find_cache(intake->config, request->caches[i]);

		/* With broken settings no cache is known: the file waits for better ones. */
		if (cache == NULL) {
			error_set(err, intake->resolves ? ERROR_PERMANENT : ERROR_TRANSIENT,
			          "no cache is named \"%s\"", request->caches[i]);
			return 0;
		}
		bits |= UINT64_C(1) << (cache - intake->config->caches);
	}
	return bits;
}

static int check_request(struct spool_file *file, struct error *err)
{
	const struct request *request = &file->request;
	const char *dir = store_dir(file->intake->store);

	if (request->verb != VERB_ENQUEUE && request->verb != VERB_PUSH)
		return error_set(err, ERROR_PERMANENT, "not an enqueue request");
	if (request_check_paths(request, dir, err) < 0)
		return -1;
	file->handover.caches = cache_bits(file->intake, request, err);
	return request->n_caches > 0 && file->handover.caches == 0 ? -1 : 0;
}

static void take_in(struct intake *intake, const char *name)
{
	struct spool_file *file = calloc(1, sizeof(*file));
	struct error err;
	char *text = NULL;
	uint32_t uid = 0;
	size_t len;
	int rc;

	if (file == NULL)
		return;
	file->intake = intake;
	snprintf(file->name, sizeof(file->name), "%s", name);
	rc = file_read(intake, name, &text, &len, &uid, &err);
	if (rc == 0)
		rc = request_parse(&file->request, text, len, &err);
	free(text);
	if (rc == 0)
		rc = check_request(file, &err);
	if (rc < 0) {
		if (err.kind == ERROR_PERMANENT)
			set_aside(intake, name, err.text);
		else if (err.kind != ERROR_CANCELED)
			log_warning("spool file stays file=%s: %s, retrying in %ds", name, err.text,
			            RESCAN_MS / 1000);
		file_free(file);
		return;
	}
	crash_point(SPOOL_READ);
	file->handover.uid = uid;
	file->handover.tag = file->request.tag;
	file->handover.derivation = file->request.derivation;
	file->handover.paths = (const char *const *)file->request.paths;
	file->handover.n_paths = file->request.n_paths;
	file->handover.push = file->request.verb == VERB_PUSH;
	file->handover.is_spooled = true;
	file->handover.force = file->request.force;
	intake->spool.has_begun = true;
	intake->spool.n_running++;
	intake_start(intake, &file->handover, on_taken_in);
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), n_end = strlen(end);

	return n > n_end && strcmp(name + n - n_end, end) == 0;
}

/* Of a hook that was killed while it wrote; its root brings the path in. */
static void remove_left_over(int dir_fd, const char *name)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_mtime >= clock_unix_s() - LEFT_OVER_AFTER_S)
		return;
	log_debug("unfinished spool file removed file=%s", name);
	unlinkat(dir_fd, name, 0);
}

/* Counts the files that there are, and removes what is left over. Returns 0, or why it could not. */
static int count_files(const char *path, uint64_t *ret_n, uint64_t *ret_n_bad)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	*ret_n = *ret_n_bad = 0;
	if (dir == NULL)
		return errno;
	while ((entry = readdir(dir)) != NULL) {
		if (spool_name_parse(entry->d_name, NULL))
			(*ret_n)++;
		else if (ends_with(entry->d_name, SPOOL_SUFFIX ".bad"))
			(*ret_n_bad)++;
		else if (entry->d_name[0] == '.' && ends_with(entry->d_name, SPOOL_SUFFIX ".tmp"))
			remove_left_over(dirfd(dir), entry->d_name);
	}
	closedir(dir);
	return 0;
}

/* What the spool is like, for status. */
static void note(struct intake *intake)
{
	struct spool *spool = &intake->spool;
	const char *dir = intake->config->spool_dir;
	uint64_t n_bad, n_waiting;
	int rc = count_files(dir, &n_waiting, &n_bad);
	char message[sizeof(spool->message)] = "";

	n_waiting -= spool->n_kept < n_waiting ? spool->n_kept : n_waiting;
	if (rc != 0)
		snprintf(message, sizeof(message),
		         "the spool cannot be read: %.300s: %s; what hooks leave there waits", dir,
		         strerror(rc));
	else if (spool->n_kept > 0)
		snprintf(message, sizeof(message),
		         "the spool cannot be emptied: what was taken in from %.300s cannot be removed"
		         " (%zu so far); expected a directory that uid %u may write",
		         dir, spool->n_kept, (unsigned)geteuid());
	if (spool->n_bad == n_bad && spool->n_waiting == n_waiting && strcmp(spool->message, message) == 0)
		return;
	if (rc != 0 && *spool->message == '\0')
		log_error("%s", message);
	spool->n_bad = n_bad;
	spool->n_waiting = n_waiting;
	memcpy(spool->message, message, sizeof(message));
	intake->on_news(intake->ctx);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void read_names(struct spool *spool)
{
	const struct dirent *entry;

	spool->n_names = spool->next = 0;
	while (spool->n_names < SPOOL_LISTED && (entry = readdir(spool->dir)) != NULL)
		if (spool_name_parse(entry->d_name, NULL))
			strcpy(spool->names[spool->n_names++], entry->d_name);
	if (spool->n_names < SPOOL_LISTED) {
		closedir(spool->dir);
		spool->dir = NULL;
	}
	qsort(spool->names, spool->n_names, SPOOL_NAME_SIZE, by_name);
}

/* The next name of the pass, or NULL: it is over. */
static const char *next_name(struct spool *spool)
{
	if (spool->next == spool->n_names && spool->dir != NULL)
		read_names(spool);
	return spool->next < spool->n_names ? spool->names[spool->next++] : NULL;
}

static bool pass_is_over(const struct spool *spool)
{
	return spool->next == spool->n_names && spool->dir == NULL;
}

/* Goes on with the pass; the last of the files to end does so again. */
static void go_on(struct intake *intake)
{
	struct spool *spool = &intake->spool;
	const char *name;

	if (intake->closing || intake->takes_no_more)
		return;
	while (spool->n_running + spool->n_kept < SPOOL_AT_ONCE && (name = next_name(spool)) != NULL)
		if (!is_kept(spool, name))
			take_in(intake, name);
}

static void spool_scan(struct intake *intake)
{
	struct spool *spool = &intake->spool;

	if (intake->closing || intake->takes_no_more)
		return;
	remove_kept(intake);
	note(intake);
	if (spool->n_running > 0)
		return;
	if (pass_is_over(spool)) {
		spool->dir = opendir(intake->config->spool_dir);
		spool->has_begun = false;
	}
	go_on(intake);
}

static void take_in_more(struct intake *intake)
{
	const struct spool *spool = &intake->spool;

	go_on(intake);
	if (spool->n_running == 0 && spool->has_begun && pass_is_over(spool))
		spool_scan(intake);
}

static void on_changed(struct watch *watch)
{
	struct intake *intake = CONTAINER_OF(watch, struct intake, spool.watch);

	/* Of our own removing there are many, and each would count anew. */
	if (intake->spool.n_running == 0)
		spool_scan(intake);
}

static void on_rescan(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, spool.rescan);

	spool_scan(intake);
	timer_set(timer, RESCAN_MS);
}

void spool_open(struct intake *intake)
{
	struct error err;

	timer_init(&intake->spool.rescan, intake->loop, on_rescan);
	intake->n_handles++;
	if (watch_open(&intake->spool.watch, intake->loop, intake->config->spool_dir, on_changed, &err) < 0)
		log_warning("spool is not watched: %s, looking every %ds", err.text, RESCAN_MS / 1000);
	intake->n_handles++;
	timer_set(&intake->spool.rescan, 1);
}

static void on_watch_closed(struct watch *watch)
{
	struct intake *intake = CONTAINER_OF(watch, struct intake, spool.watch);

	intake->n_handles--;
	intake_maybe_closed(intake);
}

static void on_rescan_closed(struct timer *timer)
{
	struct intake *intake = CONTAINER_OF(timer, struct intake, spool.rescan);

	intake->n_handles--;
	intake_maybe_closed(intake);
}

void spool_close(struct intake *intake)
{
	timer_close(&intake->spool.rescan, on_rescan_closed);
	watch_close(&intake->spool.watch, on_watch_closed);
	if (intake->spool.dir != NULL)
		closedir(intake->spool.dir);
	intake->spool.dir = NULL;
}
