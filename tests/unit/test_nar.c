/* format/nar: the bytes are those of Nix, in whatever pieces they are taken, and a tree that
 * changes under our hands is noticed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <sodium.h>

#include "common/buf.h"
#include "daemon/format/hash.h"
#include "daemon/format/nar.h"
#include "tests/unit/test.h"

static char dir[64]; /* each test's own, empty at its start */

/* Stands before libc's: a file system need not say of what type an entry is. */
static bool types_are_hidden;

ssize_t getdents64(int fd, void *data, size_t n_bytes)
{
	ssize_t n = syscall(SYS_getdents64, fd, data, n_bytes);

	for (ssize_t at = 0; types_are_hidden && at < n;) {
		struct dirent64 *entry = (struct dirent64 *)(void *)((char *)data + at);

		entry->d_type = DT_UNKNOWN;
		at += entry->d_reclen;
	}
	return n;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int make_dir_of_test(void **state)
{
	(void)state;
	types_are_hidden = false;
	strcpy(dir, "/tmp/nncache-nar-XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir_of_test(void **state)
{
	(void)state;
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

/* Paths below DIR; a slot for each of a few calls in one expression. */
static const char *in_dir(const char *name)
{
	static char paths[4][4096];
	static unsigned n;
	char *path = paths[n++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void make_file(const char *path, const char *data, size_t n_bytes, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void make_text(const char *path, const char *text)
{
	make_file(path, text, strlen(text), 0644);
}

/* Takes the NAR of PATH in pieces of N_PIECE bytes. */
static int take_nar(struct buf *ret, const char *path, size_t n_piece, struct error *err)
{
	struct nar *nar;
	char *piece = malloc(n_piece);
	ssize_t n;

	assert_non_null(piece);
	assert_int_equal(nar_open(&nar, path, err), 0);
	while ((n = nar_read(nar, piece, n_piece, err)) > 0)
		buf_append(ret, piece, (size_t)n);
	if (n == 0)
		assert_int_equal(nar_read(nar, piece, n_piece, err), 0);
	nar_close(nar);
	free(piece);
	assert_true(buf_ok(ret));
	return (int)n;
}

static void assert_nar(const char *path, size_t n_bytes, const char *nix32, const char *base64)
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	char text[4096];
	struct error err;
	struct buf nar;

	buf_init(&nar, MIB(1));
	assert_int_equal(take_nar(&nar, path, 65536, &err), 0);
	assert_int_equal(nar.len, n_bytes);
	crypto_hash_sha256(hash, (const uint8_t *)nar.data, nar.len);
	nixbase32_encode(text, hash, sizeof(hash));
	assert_string_equal(text, nix32);
	if (base64 != NULL)
		assert_string_equal(sodium_bin2base64(text, sizeof(text), (const uint8_t *)nar.data, nar.len,
		                                      sodium_base64_VARIANT_ORIGINAL),
		                    base64);
	buf_fini(&nar);
}

static void small_nars_are_those_of_nix(void **state)
{
	(void)state;
	make_text(in_dir("hello"), "hello\n");
	make_text(in_dir("empty"), "");
	make_text(in_dir("eight"), "12345678");
	make_file(in_dir("exec"), "#!/bin/sh\n", 10, 0755);
	assert_int_equal(symlink("../hello.txt", in_dir("link")), 0);
	assert_int_equal(mkdir(in_dir("d"), 0755), 0);
	assert_int_equal(mkdir(in_dir("d/A"), 0755), 0);
	assert_int_equal(mkdir(in_dir("d/sub"), 0755), 0);
	assert_int_equal(mkdir(in_dir("d/a"), 0755), 0);
	make_text(in_dir("d/a/f"), "z");
	make_text(in_dir("d/a-b"), "y");
	make_text(in_dir("d/a.b"), "x");

	assert_nar(
		in_dir("hello"), 120, "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw",
		"DQAAAAAAAABuaXgtYXJjaGl2ZS0xAAAAAQAAAAAAAAAoAAAAAAAAAAQAAAAAAAAAdHlwZQAAAAAHAAAAAAAAAHJlZ3"
		"VsYXIACAAAAAAAAABjb250ZW50cwYAAAAAAAAAaGVsbG8KAAABAAAAAAAAACkAAAAAAAAA");
	assert_nar(
		in_dir("empty"), 112, "0ip26j2h11n1kgkz36rl4akv694yz65hr72q4kv4b3lxcbi65b3p",
		"DQAAAAAAAABuaXgtYXJjaGl2ZS0xAAAAAQAAAAAAAAAoAAAAAAAAAAQAAAAAAAAAdHlwZQAAAAAHAAAAAAAAAHJlZ3"
		"VsYXIACAAAAAAAAABjb250ZW50cwAAAAAAAAAAAQAAAAAAAAApAAAAAAAAAA==");
	assert_nar(
		in_dir("eight"), 120, "0g7mwcdnivpkvcv7aydv8b9a4qp0nc3daxhdl95fciv488ik5mi2",
		"DQAAAAAAAABuaXgtYXJjaGl2ZS0xAAAAAQAAAAAAAAAoAAAAAAAAAAQAAAAAAAAAdHlwZQAAAAAHAAAAAAAAAHJlZ3"
		"VsYXIACAAAAAAAAABjb250ZW50cwgAAAAAAAAAMTIzNDU2NzgBAAAAAAAAACkAAAAAAAAA");
	assert_nar(
		in_dir("exec"), 160, "0m35wabrvlzjvv71f2xvca3vd91gh9mwvh4mm38h7yb0h9kc30v2",
		"DQAAAAAAAABuaXgtYXJjaGl2ZS0xAAAAAQAAAAAAAAAoAAAAAAAAAAQAAAAAAAAAdHlwZQAAAAAHAAAAAAAAAHJlZ3"
		"VsYXIACgAAAAAAAABleGVjdXRhYmxlAAAAAAAAAAAAAAAAAAAIAAAAAAAAAGNvbnRlbnRzCgAAAAAAAAAjIS9iaW4v"
		"c2gKAAAAAAAAAQAAAAAAAAApAAAAAAAAAA==");
	assert_nar(
		in_dir("link"), 128, "02cbf1cihs1cxrryi9xfc779lxikjsjjryr81khmmmh2xxslk7y5",
		"DQAAAAAAAABuaXgtYXJjaGl2ZS0xAAAAAQAAAAAAAAAoAAAAAAAAAAQAAAAAAAAAdHlwZQAAAAAHAAAAAAAAAHN5bW"
		"xpbmsABgAAAAAAAAB0YXJnZXQAAAwAAAAAAAAALi4vaGVsbG8udHh0AAAAAAEAAAAAAAAAKQAAAAAAAAA=");
	assert_nar(in_dir("d"), 1176, "138c0kask6fynn5pjwagg4acgwb8m09b5580mc1mg3s4anvgql86", NULL);
	assert_nar(dir, 2344, "0bfribqn3ygjb8gpmzmlmyd1x19sz6spycjmk04sxjp6ad1zs0cm", NULL);
}

/* Names of every byte, long names, odd modes, all kinds of padding, links to nowhere. */
static void make_hostile_tree(void)
{
	static const mode_t modes[] = { 0644, 0444, 0654, 0744, 0400, 0500, 0777, 0611 };
	char name[300], data[64];
	size_t n;
	int fd;

	memset(data, 'd', sizeof(data));
	for (int c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		snprintf(name, sizeof(name), "%c", c);
		if (c != '.')
			make_text(in_dir(name), name);
		snprintf(name, sizeof(name), "a%c", c);
		make_text(in_dir(name), name);
		snprintf(name, sizeof(name), "a%cb", c);
		assert_int_equal(c % 2 ? mkdir(in_dir(name), 0755) : symlink(name, in_dir(name)), 0);
	}
	memset(name, 'n', 255);
	name[255] = '\0';
	make_text(in_dir(name), "a long name");
	name[0] = (char)0xff;
	assert_int_equal(mkdir(in_dir(name), 0755), 0);
	assert_int_equal(mkdir(in_dir("sizes"), 0755), 0);
	for (size_t i = 0; i <= 40; i++) {
		snprintf(name, sizeof(name), "sizes/%zu", i);
		make_file(in_dir(name), data, i, modes[i % N_ELEMENTS(modes)]);
	}
	assert_int_equal(symlink("no/where", in_dir("dangling")), 0);
	assert_int_equal(symlink("/", in_dir("root")), 0);
	assert_int_equal(symlink("eight888", in_dir("link8")), 0);
	make_text(in_dir("case~nix~case~hack~1"), "kept");
	fd = open(in_dir("sparse"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(fd, 5 << 20), 0);
	assert_int_equal(pwrite(fd, "middle", 6, 3 << 20), 6);
	close(fd);
	strcpy(name, "deep");
	n = strlen(name);
	for (int i = 0; i < 60; i++) {
		assert_int_equal(mkdir(in_dir(name), 0755), 0);
		strcpy(name + n, "/d");
		n += 2;
	}
	make_text(in_dir(name), "deepest");
}

static void read_dump(struct buf *ret, const char *path)
{
	char command[256];
	size_t n;
	FILE *pipe;

	snprintf(command, sizeof(command), "nix-store --dump '%s'", path);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	do {
		char *room = buf_reserve(ret, 65536);

		assert_non_null(room);
		n = fread(room, 1, 65536, pipe);
		ret->len += n;
	} while (n > 0);
	assert_int_equal(pclose(pipe), 0);
}

static void a_hostile_tree_gives_what_nix_store_dumps(void **state)
{
	struct buf nix, ours;
	struct error err;
	(void)state;

	if (system("command -v nix-store >/dev/null 2>&1") != 0) {
		print_message("SKIPPED: there is no nix-store to compare with\n");
		skip();
	}
	make_hostile_tree();
	buf_init(&nix, MIB(16));
	buf_init(&ours, MIB(16));
	read_dump(&nix, dir);
	assert_true(nix.len > MIB(5));
	assert_int_equal(take_nar(&ours, dir, 1 << 20, &err), 0);
	assert_int_equal(ours.len, nix.len);
	assert_true(memcmp(ours.data, nix.data, nix.len) == 0);
	buf_fini(&nix);
	buf_fini(&ours);
}

static void assert_same_nar(const struct buf *expected, size_t n_piece)
{
	struct error err;
	struct buf nar;

	buf_init(&nar, MIB(16));
	assert_int_equal(take_nar(&nar, dir, n_piece, &err), 0);
	assert_int_equal(nar.len, expected->len);
	if (memcmp(nar.data, expected->data, nar.len) != 0)
		fail_msg("differs in pieces of %zu", n_piece);
	buf_fini(&nar);
}

static void pieces_of_any_size_give_the_same_bytes(void **state)
{
	struct error err;
	struct buf nar;
	(void)state;

	make_hostile_tree();
	buf_init(&nar, MIB(16));
	assert_int_equal(take_nar(&nar, dir, MIB(16), &err), 0);
	assert_int_equal(truncate(in_dir("sparse"), 10000), 0); /* a million reads take their time */
	buf_clear(&nar);
	assert_int_equal(take_nar(&nar, dir, MIB(16), &err), 0);
	assert_same_nar(&nar, 1);
	assert_same_nar(&nar, 7);
	assert_same_nar(&nar, 8);
	assert_same_nar(&nar, 4097);
	types_are_hidden = true;
	assert_same_nar(&nar, 65536);
	buf_fini(&nar);
}

static void a_directory_of_many_is_sorted_too(void **state)
{
	struct error err;
	struct buf nar;
	char name[32], last[32] = "";
	size_t n = 0;
	(void)state;

	for (int i = 0; i < 1500; i++) {
		snprintf(name, sizeof(name), "%x", i * 7919);
		make_text(in_dir(name), "");
	}
	buf_init(&nar, MIB(16));
	assert_int_equal(take_nar(&nar, dir, 65536, &err), 0);
	for (char *at = nar.data;
	     (at = memmem(at, (size_t)(nar.data + nar.len - at), "name\0\0\0\0", 8)) != NULL; n++) {
		at += 8;
		assert_true(*at > 0 && *at < 16);
		snprintf(name, sizeof(name), "%.*s", *at, at + 8);
		assert_true(strcmp(last, name) < 0);
		strcpy(last, name);
	}
	assert_int_equal(n, 1500);
	buf_fini(&nar);
}

/* Reads the first N_BYTES of PATH's NAR, which must be there. */
static struct nar *begin_nar(const char *path, size_t n_bytes)
{
	struct nar *nar;
	struct error err;
	char data[4096];

	assert_true(n_bytes <= sizeof(data));
	assert_int_equal(nar_open(&nar, path, &err), 0);
	assert_int_equal(nar_read(nar, data, n_bytes, &err), n_bytes);
	return nar;
}

static ssize_t read_rest(struct nar *nar, struct error *err)
{
	char data[4096];
	ssize_t n, sum = 0;

	while ((n = nar_read(nar, data, sizeof(data), err)) > 0)
		sum += n;
	return n < 0 ? -1 : sum;
}

static void a_file_that_shrinks_while_it_is_read_is_an_error(void **state)
{
	static char data[100000];
	struct error err;
	struct nar *nar;
	(void)state;

	make_file(in_dir("file"), data, sizeof(data), 0644);
	nar = begin_nar(dir, 4096);
	assert_int_equal(truncate(in_dir("file"), 50000), 0);
	assert_int_equal(read_rest(nar, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_non_null(strstr(err.text, in_dir("file: changed while it was read")));
	assert_false(nar_is_gone(nar));
	nar_close(nar);
}

static void a_file_that_grows_keeps_the_length_it_had(void **state)
{
	static char data[100001];
	struct error err;
	struct nar *nar;
	(void)state;

	make_file(in_dir("file"), data, sizeof(data), 0644);
	nar = begin_nar(in_dir("file"), 4096);
	assert_int_equal(truncate(in_dir("file"), 200000), 0);
	assert_int_equal(read_rest(nar, &err), 112 + 100008 - 4096);
	nar_close(nar);
}

static void a_path_that_is_not_there_is_gone(void **state)
{
	struct error err;
	struct nar *nar;
	char data[8];
	(void)state;

	assert_int_equal(nar_open(&nar, in_dir("nothing"), &err), 0);
	assert_int_equal(nar_read(nar, data, sizeof(data), &err), -1);
	assert_true(nar_is_gone(nar));
	assert_int_equal(err.kind, ERROR_PERMANENT);
	assert_string_equal(err.text, in_dir("nothing: gone"));
	nar_close(nar);
}

static void a_tree_collected_while_it_is_read_is_gone(void **state)
{
	struct error err;
	struct nar *nar;
	(void)state;

	assert_int_equal(mkdir(in_dir("tree"), 0755), 0);
	make_text(in_dir("tree/a"), "a");
	make_text(in_dir("tree/b"), "b");
	nar = begin_nar(in_dir("tree"), 150);
	nftw(in_dir("tree"), remove_one, 16, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(read_rest(nar, &err), -1);
	assert_true(nar_is_gone(nar));
	nar_close(nar);
}

static void a_file_that_vanishes_from_its_tree_is_a_change(void **state)
{
	struct error err;
	struct nar *nar;
	(void)state;

	make_text(in_dir("a"), "a");
	make_text(in_dir("b"), "b");
	nar = begin_nar(dir, 150);
	assert_int_equal(unlink(in_dir("b")), 0);
	assert_int_equal(read_rest(nar, &err), -1);
	assert_false(nar_is_gone(nar));
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	assert_string_equal(err.text, in_dir("b: changed while it was read"));
	nar_close(nar);
}

static void a_file_that_becomes_a_link_is_not_followed(void **state)
{
	struct error err;
	struct nar *nar;
	(void)state;

	make_text(in_dir("a"), "a");
	make_text(in_dir("b"), "b");
	nar = begin_nar(dir, 150);
	assert_int_equal(unlink(in_dir("b")), 0);
	assert_int_equal(symlink("a", in_dir("b")), 0);
	assert_int_equal(read_rest(nar, &err), -1);
	assert_int_equal(err.kind, ERROR_TRANSIENT);
	nar_close(nar);
}

static void a_pipe_in_a_tree_is_an_error_and_nobody_waits_for_it(void **state)
{
	struct error err;
	struct buf nar;
	(void)state;

	buf_init(&nar, MIB(1));
	assert_int_equal(mkdir(in_dir("sub"), 0755), 0);
	assert_int_equal(mkfifo(in_dir("sub/fifo"), 0644), 0);
	for (int hidden = 0; hidden < 2; hidden++) {
		types_are_hidden = hidden;
		assert_int_equal(take_nar(&nar, dir, 100, &err), -1);
		assert_int_equal(err.kind, ERROR_PERMANENT);
		assert_string_equal(err.text, in_dir("sub/fifo: neither file, directory nor symbolic link"));
	}
	buf_fini(&nar);
}

static size_t count_fds(void)
{
	DIR *fds = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(fds);
	while (readdir(fds) != NULL)
		n++;
	closedir(fds);
	return n;
}

static void a_tree_too_deep_is_an_error_and_leaves_no_descriptor(void **state)
{
	char name[600];
	size_t n, n_fds = count_fds();
	struct error err;
	struct buf nar;
	(void)state;

	buf_init(&nar, MIB(1));
	strcpy(name, "d");
	n = 1;
	for (int depth = 2; depth <= NAR_DEPTH_MAX; depth++) {
		assert_int_equal(mkdir(in_dir(name), 0755), 0);
		strcpy(name + n, "/d");
		n += 2;
	}
	assert_int_equal(take_nar(&nar, dir, 65536, &err), 0);
	assert_int_equal(mkdir(in_dir(name), 0755), 0);
	assert_int_equal(take_nar(&nar, dir, 65536, &err), -1);
	assert_int_equal(err.kind, ERROR_PERMANENT);
	assert_non_null(strstr(err.text, "too many directories deep"));
	assert_int_equal(count_fds(), n_fds);
	buf_fini(&nar);
}

static void an_abandoned_nar_leaves_no_descriptor(void **state)
{
	static char data[100000];
	size_t n_fds = count_fds();
	(void)state;

	make_file(in_dir("file"), data, sizeof(data), 0644);
	nar_close(begin_nar(dir, 4096));
	nar_close(NULL);
	assert_int_equal(count_fds(), n_fds);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir_of_test, remove_dir_of_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(small_nars_are_those_of_nix),
		IN_DIR(a_hostile_tree_gives_what_nix_store_dumps),
		IN_DIR(pieces_of_any_size_give_the_same_bytes),
		IN_DIR(a_directory_of_many_is_sorted_too),
		IN_DIR(a_file_that_shrinks_while_it_is_read_is_an_error),
		IN_DIR(a_file_that_grows_keeps_the_length_it_had),
		IN_DIR(a_path_that_is_not_there_is_gone),
		IN_DIR(a_tree_collected_while_it_is_read_is_gone),
		IN_DIR(a_file_that_vanishes_from_its_tree_is_a_change),
		IN_DIR(a_file_that_becomes_a_link_is_not_followed),
		IN_DIR(a_pipe_in_a_tree_is_an_error_and_nobody_waits_for_it),
		IN_DIR(a_tree_too_deep_is_an_error_and_leaves_no_descriptor),
		IN_DIR(an_abandoned_nar_leaves_no_descriptor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
