/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Common code of the mlock tests that reclaim memory: set up and remove swap on
 * a zram device, and a memory cgroup.
 *
 * Include this after mlock-helpers.h.
 */
#ifndef MLOCK_SWAP_H
#define MLOCK_SWAP_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

/*
 * Swap on zram
 */

struct swap {
	int id;			/* of the zram device */
	unsigned long pages;
	bool sized, added, on;
	char dev[32];
};

#define ZRAM_CONTROL "/sys/class/zram-control/"

static inline char *zram_file(char *path, size_t size, const struct swap *s,
			      const char *name)
{
	snprintf(path, size, "/sys/block/zram%d/%s", s->id, name);
	return path;
}

static inline void swap_stop(struct swap *s)
{
	char path[64];

	if (s->on)
		swapoff(s->dev);
	if (s->sized)
		write_str(zram_file(path, sizeof(path), s, "reset"), "1");
	if (s->added)
		write_ulong(ZRAM_CONTROL "hot_remove", s->id);
	s->on = false;
	s->sized = false;
	s->added = false;
}

/* What mkswap writes. */
static inline bool swap_format(const char *dev, unsigned long pages)
{
	struct {
		char boot[1024];
		uint32_t version;
		uint32_t last_page;
	} *head;
	char *page = calloc(1, psize());
	int fd = open(dev, O_RDWR | O_CLOEXEC);
	bool ok;

	if (fd < 0 || !page) {
		free(page);
		return false;
	}
	head = (void *)page;
	head->version = 1;
	head->last_page = pages - 1;
	memcpy(page + psize() - 10, "SWAPSPACE2", 10);
	ok = pwrite(fd, page, psize(), 0) == (ssize_t)psize() && !fsync(fd);
	close(fd);
	free(page);
	return ok;
}

static inline const char *disk_try(struct swap *s, unsigned long pages)
{
	char path[64], size[32];

	/* Leave the devices of others alone. */
	if (find_number(zram_file(path, sizeof(path), s, "disksize"), "")) {
		s->id = find_number(ZRAM_CONTROL "hot_add", "");
		if (s->id < 0)
			return "no zram";
		s->added = true;
	}
	s->pages = pages;
	snprintf(s->dev, sizeof(s->dev), "/dev/zram%d", s->id);
	snprintf(size, sizeof(size), "%luK", pages * (psize() / 1024));
	if (write_str(zram_file(path, sizeof(path), s, "disksize"), size))
		return "cannot set the size of the zram device";
	s->sized = true;
	return NULL;
}

/* Only the device. NULL, or why there is none. */
static inline const char *disk_start(struct swap *s, unsigned long pages)
{
	const char *why = disk_try(s, pages);

	if (why)
		swap_stop(s);
	return why;
}

static inline const char *swap_try(struct swap *s, unsigned long pages)
{
	const char *why = disk_try(s, pages);

	if (why)
		return why;
	if (!swap_format(s->dev, pages))
		return "cannot write to the zram device";
	/* Before any other. */
	if (swapon(s->dev, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK))
		return "cannot swap to the zram device";
	s->on = true;
	return NULL;
}

/* NULL, or why there is none. */
static inline const char *swap_start(struct swap *s, unsigned long pages)
{
	const char *why = swap_try(s, pages);

	if (why)
		swap_stop(s);
	return why;
}

/*
 * A memory cgroup
 */

struct group {
	bool mounted, enabled;
	char mnt[64];
	char path[96];
};

static inline void group_stop(struct group *g)
{
	char path[128];

	if (g->path[0])
		rmdir(g->path);
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", g->mnt);
	if (g->enabled)
		write_str(path, "-memory");
	if (g->mounted)
		umount(g->mnt);
	if (g->mnt[0])
		rmdir(g->mnt);
}

static inline const char *group_try(struct group *g, unsigned long max)
{
	char path[128];

	snprintf(g->mnt, sizeof(g->mnt), "/tmp/mlock-XXXXXX");
	if (!mkdtemp(g->mnt)) {
		g->mnt[0] = '\0';
		return "cannot make a directory";
	}
	g->mounted = !mount("none", g->mnt, "cgroup2", 0, NULL);
	if (!g->mounted)
		return "no cgroup2";
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", g->mnt);
	if (!file_says(path, "memory"))
		g->enabled = !write_str(path, "+memory");
	snprintf(g->path, sizeof(g->path), "%s/mlock-%d", g->mnt,
		 getpid());
	if (mkdir(g->path, 0755))
		return "cannot make a cgroup";
	snprintf(path, sizeof(path), "%s/memory.max", g->path);
	if (write_ulong(path, P(max)))
		return "no memory controller";
	return NULL;
}

/* NULL, or why there is none. */
static inline const char *group_start(struct group *g, unsigned long max)
{
	const char *why = group_try(g, max);

	if (why)
		group_stop(g);
	return why;
}

static inline int group_join(const struct group *g)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/cgroup.procs", g->path);
	return write_str(path, "0");
}

#endif
