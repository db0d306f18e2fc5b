/* The doctor's look at this machine: directories, modes, file systems, groups. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "daemon/doctor_parts.h"

#define GROUP_TEXT_MAX KIB(4)

const char *doctor_file_system(unsigned long type, bool *ret_is_remote, bool *ret_is_volatile)
{
	static const struct {
		unsigned long type;
		const char *name;
		bool is_remote, is_volatile;
	} types[] = {
		{ 0x6969, "NFS", true, false },           { 0xff534d42, "CIFS", true, false },
		{ 0xfe534d42, "SMB2", true, false },      { 0x517b, "SMB", true, false },
		{ 0x01021997, "9P", true, false },        { 0x65735546, "FUSE", true, false },
		{ 0x5346414f, "AFS", true, false },       { 0x6b414653, "AFS", true, false },
		{ 0x00c36400, "Ceph", true, false },      { 0x47504653, "GPFS", true, false },
		{ 0x7461636f, "OCFS2", true, false },     { 0x0bd00bd0, "Lustre", true, false },
		{ 0x01021994, "tmpfs", false, true },     { 0x858458f6, "ramfs", false, true },
		{ 0xef53, "ext4", false, false },         { 0x58465342, "XFS", false, false },
		{ 0x9123683e, "Btrfs", false, false },    { 0x2fc12fc1, "ZFS", false, false },
		{ 0xf2f52010, "F2FS", false, false },     { 0x794c7630, "overlayfs", false, false },
		{ 0xca451a4e, "bcachefs", false, false },
	};

	*ret_is_remote = *ret_is_volatile = false;
	for (size_t i = 0; i < N_ELEMENTS(types); i++) {
		if (types[i].type != (type & 0xffffffff))
			continue;
		*ret_is_remote = types[i].is_remote;
		*ret_is_volatile = types[i].is_volatile;
		return types[i].name;
	}
	return NULL;
}

/* As UID, who may be another one than we are: then only root can find out. */
static enum may_write find_may_write(const char *dir, uid_t uid, gid_t gid)
{
	uid_t us = geteuid();
	gid_t our_group = getegid();
	int rc;

	if (us != uid && us != 0)
		return MAY_WRITE_UNKNOWN;
	if (us != uid && (setegid(gid) < 0 || seteuid(uid) < 0))
		return MAY_WRITE_UNKNOWN;
	rc = faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS);
	if (us != uid && (seteuid(us) < 0 || setegid(our_group) < 0))
		return MAY_WRITE_UNKNOWN;
	return rc == 0 ? MAY_WRITE_YES : MAY_WRITE_NO;
}

/* What is there of PATH, or its nearest parent. */
static bool find_nearest(const char *path, char nearest[4096], struct stat *st)
{
	size_t n = strlen(path);

	if (n == 0 || n >= 4096 || path[0] != '/')
		return false;
	snprintf(nearest, 4096, "%s", path);
	while (stat(nearest, st) < 0) {
		char *slash = strrchr(nearest, '/');

		if (slash == nearest && nearest[1] == '\0')
			return false;
		slash[slash == nearest] = '\0';
	}
	return true;
}

static void put_user(struct buf *out, const char *key, uid_t uid)
{
	const struct passwd *user = getpwuid(uid);
	char text[24];

	snprintf(text, sizeof(text), "%u", (unsigned)uid);
	record_text(out, key, user != NULL ? user->pw_name : text);
}

static void put_file_system(struct buf *out, const char *path)
{
	bool is_remote, is_volatile;
	const char *name;
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return;
	name = doctor_file_system((unsigned long)fs.f_type, &is_remote, &is_volatile);
	record_text(out, "file-system", name);
	record_bool(out, "is-remote", is_remote);
	record_bool(out, "is-volatile", is_volatile);
	record_uint(out, "free-bytes", (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize);
	record_uint(out, "total-bytes", (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize);
}

static void put_place(struct buf *out, const char *what, const char *path, const struct stat *daemon)
{
	char nearest[4096], mode[8];
	enum may_write may_write;
	struct stat st;
	bool exists;

	if (path == NULL || !find_nearest(path, nearest, &st))
		return;
	exists = strcmp(path, nearest) == 0;
	record_begin(out, "place");
	record_text(out, "what", what);
	record_text(out, "path", path);
	record_bool(out, "exists", exists);
	if (exists) {
		snprintf(mode, sizeof(mode), "%04o", (unsigned)(st.st_mode & 07777));
		record_text(out, "mode", mode);
		put_user(out, "user", st.st_uid);
	}
	may_write = S_ISDIR(st.st_mode) ? find_may_write(nearest, daemon->st_uid, daemon->st_gid)
	                                : MAY_WRITE_UNKNOWN;
	if (may_write != MAY_WRITE_UNKNOWN)
		record_bool(out, "may-write", may_write == MAY_WRITE_YES);
	put_file_system(out, nearest);
	record_end(out);
}

static void put_group(struct buf *out, const char *what, const char *name)
{
	const struct group *group = name != NULL && *name != '\0' ? getgrnam(name) : NULL;
	struct buf members;

	if (name == NULL || *name == '\0')
		return;
	buf_init(&members, GROUP_TEXT_MAX);
	for (char **member = group != NULL ? group->gr_mem : NULL; member != NULL && *member != NULL;
	     member++)
		buf_printf(&members, "%s%s", members.len > 0 ? " " : "", *member);
	record_begin(out, "group");
	record_text(out, "what", what);
	record_text(out, "name", name);
	record_bool(out, "exists", group != NULL);
	record_text(out, "members", buf_text(&members));
	record_end(out);
	buf_fini(&members);
}

void doctor_put_places(const struct config *config, const char *store_dir, const char *error, struct buf *out)
{
	struct stat daemon = { .st_uid = geteuid(), .st_gid = getegid() };

	/* Whoever owns its state is the daemon. */
	if (stat(config->state_dir, &daemon) < 0)
		daemon = (struct stat){ .st_uid = geteuid(), .st_gid = getegid() };
	record_begin(out, "config");
	record_text(out, "error", error);
	record_bool(out, "user-mode", config->user_mode);
	record_text(out, "socket", config->socket);
	record_text(out, "state-dir", config->state_dir);
	record_uint(out, "roots-min-free-percent", config->roots_min_free_percent);
	put_user(out, "daemon-user", daemon.st_uid);
	record_end(out);
	put_place(out, "state-dir", config->state_dir, &daemon);
	put_place(out, "spool-dir", config->spool_dir, &daemon);
	put_place(out, "roots-dir", config->gcroots_dir, &daemon);
	put_place(out, "socket", config->socket, &daemon);
	put_place(out, "store", store_dir, &daemon);
	for (size_t i = 0; i < config->n_caches; i++)
		if (config->caches[i].kind == CACHE_FILE && config->caches[i].push != PUSH_NO)
			put_place(out, "cache", config->caches[i].identity + strlen("file://"), &daemon);
	put_group(out, "push", config->push_group);
	put_group(out, "control", config->control_group);
}
