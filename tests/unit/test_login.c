/* login, secrets: what the clients of Cachix and Attic keep for their user is read as they write it, all else
 * is refused without being shown, and each secret comes from the first place that has it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"
#include "daemon/backend/kind.h"
#include "daemon/backend/login.h"
#include "daemon/backend/secrets.h"
#include "tests/support/servers.h"
#include "tests/unit/test.h"

#define CACHIX                                                               \
	"{ authToken = \"the-token\"\n"                                      \
	", hostname = \"https://cachix.org\"\n"                              \
	", binaryCaches = [ { name = \"team\", secretKey = \"old\" }\n"      \
	"                 , { name = \"other\", secretKey = \"foreign\" }\n" \
	"                 , { secretKey = \"new\", name = \"team\" } ]\n"    \
	"}\n"
#define ATTIC                                                              \
	"default-server = \"local\"\n\n"                                   \
	"[servers.other]\nendpoint = \"https://other/\"\ntoken = 'no'\n\n" \
	"[servers.local]\nendpoint = \"https://ours/\"\ntoken = \"the-token\"\n"

static struct login login;
static struct error err;

static int read_cachix(const char *text)
{
	login_fini(&login);
	return login_read_cachix(&login, text, strlen(text), "team", &err);
}

static bool is_ours(const char *endpoint, const void *ctx)
{
	return strcmp(endpoint, ctx) == 0;
}

static int read_attic(const char *text)
{
	login_fini(&login);
	return login_read_attic(&login, text, strlen(text), is_ours, "https://ours/", &err);
}

static void assert_text(const char *text, const char *expected)
{
	if (expected == NULL) {
		assert_null(text);
		return;
	}
	assert_non_null(text);
	assert_string_equal(text, expected);
}

static void the_record_of_the_client_of_cachix_is_read(void **state)
{
	(void)state;
	assert_int_equal(read_cachix(CACHIX), 0);
	assert_text(login.token, "the-token");
	assert_text(login.endpoint, "https://cachix.org");
	assert_text(login.signing_key, "new");
	login_fini(&login);
}

static void other_spellings_of_that_record_are_read(void **state)
{
	static const struct {
		const char *text, *token, *key;
	} cases[] = {
		{ "{ authToken = \"t\", binaryCaches = [] : List { name : Text, secretKey : Text } }", "t",
		  NULL },
		{ "{ binaryCaches =\n    [ { name = \"team\"\n, secretKey =\n \"a+/=\" } ], authToken = \"\" "
		  "}",
		  "", "a+/=" },
		{ "-- mine\r\n{ authToken -- the token\n = \"a\\\"b\\\\c\\$d\\/\" : Text }\n-- end",
		  "a\"b\\c$d/", NULL },
		{ "{ , `authToken` = \"t\", }", "t", NULL },
		{ "{ more = \"of no use\", authToken = \"t$u\" }", "t$u", NULL },
		{ "{}", NULL, NULL },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(read_cachix(cases[i].text), 0);
		assert_text(login.token, cases[i].token);
		assert_text(login.signing_key, cases[i].key);
	}
	login_fini(&login);
}

static void what_else_dhall_can_do_is_refused_by_its_line(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "", "line 1: expected {" },
		{ "let t = \"SECRET\" in { authToken = t }", "line 1: expected {" },
		{ "{\n authToken = env:SECRET }", "line 2: expected a text in quotes" },
		{ "{\n authToken = ''SECRET'' }", "line 2: expected a text in quotes" },
		{ "{ authToken = \"SECRET${x}\" }", "line 1: expected a text with nothing to insert" },
		{ "{ authToken = \"SECRET\\u0041\" }", "line 1: expected no such escape in a text" },
		{ "{ authToken = \"SECRET\n\" }", "line 1: expected a text that ends on its line" },
		{ "{ authToken = \"SECRET", "line 1: expected a text that ends on its line" },
		{ "{ authToken = \"SECRET\" ++ \"b\" }", "line 1: expected , or }" },
		{ "{ authToken = \"SECRET\" } // { a = \"b\" }", "line 1: expected the end of the file" },
		{ "{ authToken : \"SECRET\" }", "line 1: expected = behind the name of a field" },
		{ "{ = }", "line 1: expected the name of a field" },
		{ "{ binaryCaches =\n\n [ SECRET ] }", "line 3: expected {" },
		{ "{ binaryCaches = [] : List SECRET }", "line 1: expected {" },
		{ "{ authToken = \"a\" {- SECRET -} }", "line 1: expected , or }" },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(read_cachix(cases[i].text), -1);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_string_equal(err.text, cases[i].why);
		assert_null(login.token);
	}
}

static void every_beginning_of_a_file_is_refused_or_read(void **state)
{
	(void)state;
	for (size_t len = 0; len < strlen(CACHIX) - 1; len++)
		assert_int_equal(login_read_cachix(&login, CACHIX, len, "team", &err), -1);
	for (size_t len = 0; len < strlen(ATTIC); len++) {
		if (login_read_attic(&login, ATTIC, len, is_ours, "https://ours/", &err) == 0 &&
		    login.token != NULL)
			assert_true(len >= strlen(ATTIC) - 1);
		login_fini(&login);
	}
}

static void the_table_of_our_server_at_attic_is_read(void **state)
{
	static const struct {
		const char *text, *token, *token_file;
	} cases[] = {
		{ ATTIC, "the-token", NULL },
		{ "[servers.\"a b\"] # ours\r\n token-file = '/a/b' # c\r\n\tendpoint = \"https://ours/\"",
		  NULL, "/a/b" },
		{ "[servers.a]\nendpoint = \"https://ours/\"\ntoken = \"1\"\n[servers.b]\nendpoint = "
		  "\"https://ours/\"\ntoken = \"2\"",
		  "1", NULL },
		{ "endpoint = \"https://ours/\"\ntoken = \"1\"", NULL, NULL },
		{ "[other.a]\nendpoint = \"https://ours/\"\ntoken = \"1\"\nn = 12\nb = true", NULL, NULL },
		{ "[servers]\n[servers.a.b]\nendpoint = \"https://ours/\"\ntoken = \"1\"", NULL, NULL },
		{ "", NULL, NULL },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(read_attic(cases[i].text), 0);
		assert_text(login.token, cases[i].token);
		assert_text(login.token_file, cases[i].token_file);
	}
	login_fini(&login);
}

static void what_else_toml_can_do_is_refused_by_its_line(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ "\nservers = { a = { token = \"SECRET\" } }",
		  "line 2: expected a name, or a text in quotes" },
		{ "servers.a.token = \"SECRET\"", "line 1: expected = behind the name of a key" },
		{ "[[servers]]", "line 1: expected a name, or a text in quotes" },
		{ "[servers.a", "line 1: expected ] behind the name of a table" },
		{ "[servers.a]\ntoken = \"\"\"SECRET\"\"\"", "line 2: expected the end of the line" },
		{ "[servers.a]\ntoken = SECRET", "line 2: expected a name, or a text in quotes" },
		{ "[servers.a]\ntoken = \"SECRET", "line 2: expected a text that ends on its line" },
		{ "[servers.a]\ntoken = \"SECRET\" more", "line 2: expected the end of the line" },
		{ "[servers.a]\ntoken = \"SEC\\u0052ET\"", "line 2: expected no such escape in a text" },
	};
	(void)state;

	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		assert_int_equal(read_attic(cases[i].text), -1);
		assert_int_equal(err.kind, ERROR_OPERATOR);
		assert_string_equal(err.text, cases[i].why);
		assert_null(login.token);
	}
}

/* Where secrets come from */

static char dir[64], token_file[96], login_file[96];

static void write_text(const char *file, const char *text)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static struct cache_config config_of(enum cache_kind kind, const char *url)
{
	return (struct cache_config){ .name = (char *)(uintptr_t) "main",
		                      .url = (char *)(uintptr_t)url,
		                      .kind = kind,
		                      .login_file = login_file };
}

static void assert_token(const struct cache_config *config, const char *expected)
{
	char *token = NULL;

	assert_int_equal(secrets_read_token(config, &token, &err), 0);
	assert_text(token, expected);
	wipe_text(&token);
}

static void assert_key(const struct cache_config *config, const char *expected)
{
	const char *origin;
	char *key = NULL;

	assert_int_equal(secrets_read_signing_key(config, &key, &origin, &err), 0);
	assert_text(key, expected);
	wipe_text(&key);
}

static int set_up(void **state)
{
	(void)state;
	scratch_make(dir);
	snprintf(token_file, sizeof(token_file), "%s/token", dir);
	snprintf(login_file, sizeof(login_file), "%s/login", dir);
	unsetenv("CACHIX_AUTH_TOKEN");
	unsetenv("CACHIX_SIGNING_KEY");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	scratch_remove(dir);
	return 0;
}

static void the_first_place_that_has_a_secret_of_cachix_counts(void **state)
{
	struct cache_config config = config_of(CACHE_CACHIX, "cachix://team/");
	(void)state;

	assert_token(&config, NULL);
	assert_key(&config, NULL);
	write_text(login_file, CACHIX);
	assert_token(&config, "the-token");
	assert_key(&config, "new");
	setenv("CACHIX_AUTH_TOKEN", "", 1);
	assert_token(&config, "the-token");
	setenv("CACHIX_AUTH_TOKEN", "of-environment", 1);
	setenv("CACHIX_SIGNING_KEY", " key-of-environment", 1);
	assert_token(&config, "of-environment");
	assert_key(&config, "key-of-environment");
	write_text(token_file, "of-file\n");
	config.token_file = token_file;
	assert_token(&config, "of-file");
}

static void without_user_mode_the_login_of_a_user_counts_for_nothing(void **state)
{
	struct cache_config config = config_of(CACHE_CACHIX, "cachix://team");
	(void)state;

	write_text(login_file, CACHIX);
	setenv("CACHIX_SIGNING_KEY", "key-of-environment", 1);
	config.login_file = NULL;
	assert_token(&config, NULL);
	assert_key(&config, NULL);
}

static void the_token_for_one_server_is_shown_to_no_other(void **state)
{
	struct cache_config config = config_of(CACHE_CACHIX, "cachix://team");
	char *token = NULL;
	(void)state;

	write_text(login_file, CACHIX);
	config.endpoint = (char *)(uintptr_t) "https://cachix.example";
	assert_int_equal(secrets_read_token(&config, &token, &err), -1);
	assert_int_equal(err.kind, ERROR_OPERATOR);
	assert_non_null(strstr(err.text, "its hostname is another server than https://cachix.example"));
	assert_null(strstr(err.text, "the-token"));
	config = config_of(CACHE_ATTIC, "attic://OURS:443/team/");
	write_text(login_file, ATTIC);
	assert_token(&config, "the-token");
	config.url = (char *)(uintptr_t) "attic+http://ours/team";
	assert_token(&config, NULL);
	config.url = (char *)(uintptr_t) "attic://ours/elsewhere/team";
	assert_token(&config, NULL);
	config.endpoint = (char *)(uintptr_t) "https://ours";
	assert_token(&config, "the-token");
}

static void the_token_of_attic_may_be_in_a_file(void **state)
{
	struct cache_config config = config_of(CACHE_ATTIC, "attic://ours/team");
	char *token = NULL, text[256];
	(void)state;

	snprintf(text, sizeof(text), "[servers.a]\nendpoint = \"https://ours/\"\ntoken-file = \"%s\"\n",
	         token_file);
	write_text(login_file, text);
	write_text(token_file, "of-file\n");
	assert_token(&config, "of-file");
	write_text(login_file, "[servers.a]\nendpoint = \"https://ours/\"\ntoken-file = \"token\"\n");
	assert_int_equal(secrets_read_token(&config, &token, &err), -1);
	assert_non_null(strstr(err.text, "expected a token-file that begins with /"));
}

static void a_login_that_cannot_be_read_is_told_with_what_to_do(void **state)
{
	struct cache_config config = config_of(CACHE_ATTIC, "attic://ours/team");
	char *token = NULL, expected[256];
	(void)state;

	write_text(login_file, "[servers.a]\ntoken = \"SECRET\" x");
	snprintf(expected, sizeof(expected),
	         "[cache \"main\"]: %s: line 2: expected the end of the line; or name a token-file, then it "
	         "is not read",
	         login_file);
	assert_int_equal(secrets_read_token(&config, &token, &err), -1);
	assert_string_equal(err.text, expected);
	config.token_file = token_file;
	write_text(token_file, "of-file\n");
	assert_token(&config, "of-file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_record_of_the_client_of_cachix_is_read),
		cmocka_unit_test(other_spellings_of_that_record_are_read),
		cmocka_unit_test(what_else_dhall_can_do_is_refused_by_its_line),
		cmocka_unit_test(every_beginning_of_a_file_is_refused_or_read),
		cmocka_unit_test(the_table_of_our_server_at_attic_is_read),
		cmocka_unit_test(what_else_toml_can_do_is_refused_by_its_line),
		cmocka_unit_test_setup_teardown(the_first_place_that_has_a_secret_of_cachix_counts, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(without_user_mode_the_login_of_a_user_counts_for_nothing,
		                                set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_token_for_one_server_is_shown_to_no_other, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(the_token_of_attic_may_be_in_a_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_login_that_cannot_be_read_is_told_with_what_to_do, set_up,
		                                tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
