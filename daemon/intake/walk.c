#include "daemon/intake/walk.h"

#include <stdlib.h>
#include <string.h>

#define NO_NODE UINT32_MAX

void walk_init(struct walk *walk)
{
	*walk = (struct walk){ 0 };
}

void walk_fini(struct walk *walk)
{
	for (uint32_t i = 0; i < walk->n_nodes; i++) {
		path_info_fini(&walk->nodes[i].info);
		free(walk->nodes[i].path);
		free(walk->nodes[i].refs);
	}
	free(walk->nodes);
	free(walk->index);
	walk_init(walk);
}

static uint32_t slot_of(const struct walk *walk, const char *path)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a */
	uint32_t i;

	for (const char *p = path; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211u;
	for (i = (uint32_t)(hash % walk->cap_index); walk->index[i] != 0; i = (i + 1) % walk->cap_index)
		if (strcmp(walk->nodes[walk->index[i] - 1].path, path) == 0)
			break;
	return i;
}

static bool grow(struct walk *walk)
{
	uint32_t cap = walk->cap_nodes > 0 ? 2 * walk->cap_nodes : 64;
	struct walk_node *nodes = realloc(walk->nodes, cap * sizeof(nodes[0]));
	uint32_t *index;

	if (nodes == NULL)
		return false;
	walk->nodes = nodes;
	index = calloc(2 * (size_t)cap, sizeof(index[0]));
	if (index == NULL)
		return false;
	free(walk->index);
	walk->index = index;
	walk->cap_index = 2 * cap;
	walk->cap_nodes = cap;
	for (uint32_t i = 0; i < walk->n_nodes; i++)
		index[slot_of(walk, nodes[i].path)] = i + 1;
	return true;
}

uint32_t walk_add(struct walk *walk, const char *path)
{
	uint32_t slot;
	char *copy;

	if (walk->n_nodes == walk->cap_nodes && !grow(walk))
		return NO_NODE;
	slot = slot_of(walk, path);
	if (walk->index[slot] != 0)
		return walk->index[slot] - 1;
	copy = strdup(path);
	if (copy == NULL)
		return NO_NODE;
	walk->nodes[walk->n_nodes] = (struct walk_node){ .path = copy };
	walk->index[slot] = walk->n_nodes + 1;
	return walk->n_nodes++;
}

int walk_know(struct walk *walk, uint32_t node, struct path_info *info, struct error *err)
{
	uint32_t *refs = calloc(info->n_references + 1, sizeof(refs[0])), n_refs = 0;

	for (size_t i = 0; refs != NULL && !walk->nodes[node].is_leaf && i < info->n_references; i++) {
		if (strcmp(info->references[i], info->path) == 0)
			continue;
		refs[n_refs] = walk_add(walk, info->references[i]);
		if (refs[n_refs++] == NO_NODE) {
			free(refs);
			refs = NULL;
		}
	}
	if (refs == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	walk->nodes[node].refs = refs;
	walk->nodes[node].n_refs = n_refs;
	walk->nodes[node].info = *info;
	walk->nodes[node].is_known = true;
	memset(info, 0, sizeof(*info));
	return 0;
}

struct frame {
	uint32_t node;
	uint32_t next_ref;
};

struct descent {
	struct walk *walk;
	struct frame *stack;
	size_t depth;
	uint64_t caches;
};

/* Is there anything to do at or below NODE for these caches that was not put in order before? */
static bool is_wanted(const struct walk_node *node, uint64_t caches)
{
	return !node->is_pruned && !node->is_on_stack && (caches & ~node->emitted) != 0;
}

static void push(struct descent *d, uint32_t number)
{
	d->walk->nodes[number].is_on_stack = true;
	d->stack[d->depth++] = (struct frame){ .node = number };
}

static uint32_t layer_of(const struct walk *walk, const struct walk_node *node)
{
	uint32_t layer = 0;

	for (uint32_t i = 0; i < node->n_refs; i++) {
		const struct walk_node *ref = &walk->nodes[node->refs[i]];

		if (!ref->is_pruned && ref->layer + 1 > layer)
			layer = ref->layer + 1;
	}
	return layer;
}

static void leave_all(struct descent *d)
{
	while (d->depth > 0)
		d->walk->nodes[d->stack[--d->depth].node].is_on_stack = false;
}

/* An order that is not used must not keep another root from what is in it. */
static void take_back(struct descent *d, const uint32_t *order, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		d->walk->nodes[order[i]].emitted &= ~d->caches;
}

void walk_start_over(struct walk *walk)
{
	for (uint32_t i = 0; i < walk->n_nodes; i++)
		walk->nodes[i].emitted = 0;
}

int64_t walk_order(struct walk *walk, uint32_t root, uint64_t caches, uint32_t *order, struct error *err)
{
	struct descent d = { .walk = walk, .caches = caches };
	int64_t n = 0;

	if (!is_wanted(&walk->nodes[root], caches))
		return 0;
	d.stack = calloc(walk->n_nodes, sizeof(d.stack[0]));
	if (d.stack == NULL)
		return error_set(err, ERROR_TRANSIENT, "out of memory");
	push(&d, root);
	while (d.depth > 0) {
		struct frame *top = &d.stack[d.depth - 1];
		struct walk_node *node = &walk->nodes[top->node];

		if (!node->is_known) {
			if (node == &walk->nodes[root])
				error_set(err, ERROR_PERMANENT, "gone: %s is not valid in the store",
				          node->path);
			else
				error_set(err, ERROR_PERMANENT,
				          "gone: %s, which it needs, is not valid in the store", node->path);
			take_back(&d, order, n);
			n = -1;
			break;
		}
		if (top->next_ref < node->n_refs) {
			uint32_t ref = node->refs[top->next_ref++];

			if (is_wanted(&walk->nodes[ref], caches))
				push(&d, ref);
			continue;
		}
		node->layer = layer_of(walk, node);
		node->emitted |= caches;
		node->is_on_stack = false;
		order[n++] = top->node;
		d.depth--;
	}
	leave_all(&d);
	free(d.stack);
	return n;
}
