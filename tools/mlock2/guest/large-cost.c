// SPDX-License-Identifier: GPL-2.0
/*
 * What large folios cost of which a part is locked: to split one, to lock and
 * unlock what it was or its pieces are, and to come across it in reclaim.
 *
 * In ticks of the clock, which are instructions under QEMU's -icount shift=0.
 * Run as root, on one CPU, by 'make bench-large'.
 */
#define _GNU_SOURCE
#include "kselftest.h"
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include "mlock-helpers.h"
#include "mlock-swap.h"

#define KB (1UL << 10)
#define MB (1UL << 20)

#define SMALL (4 * KB)
#define LARGE (64 * KB)
#define HUGE (2 * MB)

static const char * const kind[] = { "anon", "shmem" };

static unsigned long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static void set(bool shmem, unsigned long folio, const char *val)
{
	char path[128];

	if (folio == SMALL)
		return;
	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/transparent_hugepage/hugepages-%lukB/%s",
		 folio / KB, shmem ? "shmem_enabled" : "enabled");
	if (write_str(path, val))
		ksft_exit_fail_msg("cannot write to %s\n", path);
}

/* Memory that consists of such folios, all of it present. */
static char *area(bool shmem, unsigned long folio, unsigned long size)
{
	char *p = mmap(NULL, size + 2 * HUGE, PROT_NONE, ANON, -1, 0);
	int fd = shmem ? memfd_create("large-cost", MFD_CLOEXEC) : -1;

	if (shmem && (fd < 0 || ftruncate(fd, size)))
		ksft_exit_fail_msg("no memfd\n");
	p = (char *)(((unsigned long)p + HUGE) & ~(HUGE - 1));
	p = mmap(p, size, RW, MAP_FIXED |
		 (shmem ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS), fd, 0);
	if (p == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	if (fd >= 0)
		close(fd);
	set(shmem, folio, "always");
	memset(p, 1, size);
	set(shmem, folio, "never");
	if (folio != SMALL &&
	    count_kpageflag(p, size / psize(), HEAD_BIT) != size / folio)
		ksft_exit_fail_msg("no memory for large folios\n");
	drain();
	return p;
}

#define SPLITS 8UL

/* MADV_COLD of one page splits the folio, and has little else to do. */
static double cold(bool shmem, unsigned long folio)
{
	unsigned long size = (SPLITS + 1) * folio, sum = 0;
	char *p = area(shmem, folio, size);

	/* Without the first one, which is cold in another sense. */
	for (unsigned long i = 0; i < size; i += folio) {
		unsigned long t = now();

		madvise(p + i, psize(), MADV_COLD);
		sum += i ? now() - t : 0;
	}
	if (count_kpageflag(p, size / psize(), HEAD_BIT))
		ksft_exit_fail_msg("not all were split\n");
	munmap(p, size);
	return (double)sum / SPLITS;
}

static void lock_and_unlock(bool shmem, unsigned long folio)
{
	unsigned long size = 16 * MB, locked = 0, unlocked = 0;
	char *p = area(shmem, folio, size);

	for (int i = 0; i < 2; i++) {
		unsigned long t = now();

		do_mlock(p, size);
		locked = now() - t;
		t = now();
		do_munlock(p, size);
		unlocked = now() - t;
	}
	printf("%s, folios of %lu KiB: mlock %.0f, munlock %.0f for 64 KiB\n",
	       kind[shmem], folio / KB, (double)locked * LARGE / size,
	       (double)unlocked * LARGE / size);
	munmap(p, size);
}

static unsigned long scanned(const struct group *g)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.stat", g->path);
	return find_number(path, "pgscan ") / (LARGE / psize());
}

#define FOLIOS 128UL

/* A quarter of each folio is locked, or all of it, for which see what all else takes. */
static void reclaim(const struct group *g, bool shmem, unsigned long part)
{
	unsigned long size = FOLIOS * LARGE, folios = 0, t = 0;
	char path[128], *p = area(shmem, LARGE, size);

	for (unsigned long i = 0; i < size; i += LARGE)
		do_mlock(p + i, part);
	drain();
	snprintf(path, sizeof(path), "%s/memory.reclaim", g->path);
	for (int i = 0; i < 2; i++) {
		folios = scanned(g);
		t = now();
		write_str(path, "4M swappiness=200");
		t = now() - t;
		folios = scanned(g) - folios;
	}
	printf("%s, %lu folios of 64 KiB, %lu KiB of each locked: reclaim of 4 MiB %lu, ",
	       kind[shmem], FOLIOS, part / KB, t);
	printf("%lu folios scanned, %lu of %lu pages stay\n", folios,
	       present(p, size / psize()), size / psize());
	munmap(p, size);
}

int main(void)
{
	struct swap swap = { 0 };
	struct group group = { 0 };
	const char *why;

	set_limit(RLIM_INFINITY);
	write_str("/proc/sys/vm/drop_caches", "4");
	for (int shmem = 0; shmem <= 1; shmem++) {
		double small = cold(shmem, SMALL);

		printf("%s: split of 64 KiB %.0f, of 2 MiB %.0f\n", kind[shmem],
		       cold(shmem, LARGE) - small, cold(shmem, HUGE) - small);
		lock_and_unlock(shmem, SMALL);
		lock_and_unlock(shmem, LARGE);
		lock_and_unlock(shmem, HUGE);
	}
	why = swap_start(&swap, 64 * MB / psize());
	if (!why)
		why = group_start(&group, 512 * MB / psize());
	if (why)
		ksft_exit_fail_msg("%s\n", why);
	if (!fork()) {
		group_join(&group);
		for (int shmem = 0; shmem <= 1; shmem++) {
			reclaim(&group, shmem, LARGE / 4);
			reclaim(&group, shmem, LARGE);
		}
		exit(0);
	}
	wait(NULL);
	group_stop(&group);
	swap_stop(&swap);
	return 0;
}
