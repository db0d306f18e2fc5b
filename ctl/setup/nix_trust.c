/* As nix-daemon does it: a word is "*", a user, or "@" and a group, which has the user as its member or is
 * his primary one. */
#include "ctl/setup/nix_trust.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_in_group(const struct passwd *user, const char *name)
{
	const struct group *group = getgrnam(name);

	if (group == NULL)
		return false;
	if (group->gr_gid == user->pw_gid)
		return true;
	for (char **member = group->gr_mem; *member != NULL; member++)
		if (strcmp(*member, user->pw_name) == 0)
			return true;
	return false;
}

bool nix_trust_is_trusted(const struct nix_conf *conf)
{
	CLEANUP(buf_fini) struct buf words = { .max = KIB(64) };
	const struct passwd *user = getpwuid(geteuid());
	char *rest = NULL;

	nix_conf_join(conf, "trusted-users", &words);
	if (nix_conf_has_word(buf_text(&words), "*"))
		return true;
	if (user == NULL || words.data == NULL)
		return false;
	for (char *word = strtok_r(words.data, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
		if (strcmp(word, user->pw_name) == 0 || (word[0] == '@' && is_in_group(user, word + 1)))
			return true;
	return false;
}
