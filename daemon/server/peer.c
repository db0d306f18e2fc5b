#include "daemon/server/peer.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* Linux's NGROUPS_MAX. */
#define MAX_GROUPS 65536

static bool find_group(const char *name, gid_t *ret)
{
	const struct group *group;

	if (name == NULL || *name == '\0')
		return false;
	group = getgrnam(name);
	if (group == NULL)
		return false;
	*ret = group->gr_gid;
	return true;
}

void peer_groups_find(struct peer_groups *ret, const char *push_name, const char *control_name)
{
	*ret = (struct peer_groups){ 0 };
	ret->has_push = find_group(push_name, &ret->push);
	ret->has_control = find_group(control_name, &ret->control);
}

static void add_group(struct peer *peer, gid_t gid, const struct peer_groups *groups)
{
	if (groups->has_push && gid == groups->push)
		peer->may_push = true;
	if (groups->has_control && gid == groups->control)
		peer->may_control = true;
}

/* SO_PEERCRED has the primary group alone; this has the others. */
static int add_groups(struct peer *peer, int fd, const struct peer_groups *groups, struct error *err)
{
	gid_t few[32], *gids = few, *many = NULL;
	socklen_t len = sizeof(few);
	int rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len);

	if (rc < 0 && errno == ERANGE && len <= MAX_GROUPS * sizeof(*many)) {
		gids = many = malloc(len);
		rc = many == NULL ? -1 : getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &len);
	}
	if (rc < 0) {
		free(many);
		return error_set(err, ERROR_TRANSIENT, "groups of the peer: %s", strerror(errno));
	}
	for (size_t i = 0; i < len / sizeof(*gids); i++)
		add_group(peer, gids[i], groups);
	free(many);
	return 0;
}

int peer_get(struct peer *ret, int fd, const struct peer_groups *groups, struct error *err)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct peer peer = { 0 };

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return error_set(err, ERROR_TRANSIENT, "credentials of the peer: %s", strerror(errno));
	peer.uid = cred.uid;
	peer.is_master = cred.uid == 0 || cred.uid == geteuid();
	peer.may_push = peer.may_control = peer.is_master;
	add_group(&peer, cred.gid, groups);
	if (!peer.is_master && add_groups(&peer, fd, groups, err) < 0)
		return -1;
	*ret = peer;
	return 0;
}
