/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Common code of the mlock tests: wrappers of the system calls, mappings to
 * test, and readers of /proc.
 *
 * Include this after kselftest_harness.h. It uses vm_util.h where possible, but
 * not mlock2_() of mlock2.h, which loses the error.
 */
#ifndef MLOCK_HELPERS_H
#define MLOCK_HELPERS_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vm_util.h"

/* Constants that the C library may lack. */
#ifndef FALLOC_FL_KEEP_SIZE
#define FALLOC_FL_KEEP_SIZE 1
#endif
#ifndef FALLOC_FL_PUNCH_HOLE
#define FALLOC_FL_PUNCH_HOLE 2
#endif
#ifndef MPOL_MF_MOVE
#define MPOL_MF_MOVE (1 << 1)
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
/*
 * Bits of /proc/kpageflags. The kernel's header conflicts with vm_util.h, which
 * defines some of them, and the last one is in no uapi header.
 */
#define HEAD_BIT 15
#define TAIL_BIT 16
#ifndef KPF_UNEVICTABLE
#define KPF_UNEVICTABLE 18
#endif
#ifndef KPF_MLOCKED
#define KPF_MLOCKED 33
#endif

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static inline unsigned long P(unsigned long pages)
{
	return pages * psize();
}

/* The five system calls: 0, or a negative error. */

static inline long neg_errno(long ret)
{
	return ret == -1 ? -errno : ret;
}

static inline long do_mlock(const void *addr, unsigned long len)
{
	return neg_errno(syscall(__NR_mlock, addr, len));
}

static inline long do_mlock2(const void *addr, unsigned long len, unsigned long flags)
{
	return neg_errno(syscall(__NR_mlock2, addr, len, flags));
}

static inline long do_munlock(const void *addr, unsigned long len)
{
	return neg_errno(syscall(__NR_munlock, addr, len));
}

static inline long do_mlockall(unsigned int flags)
{
	return neg_errno(syscall(__NR_mlockall, flags));
}

static inline long do_munlockall(void)
{
	return neg_errno(syscall(__NR_munlockall));
}

/* mmap() of anonymous memory at @addr: 0, or a negative error. */
static inline long map_anon(char *addr, unsigned long pages, int prot, int flags)
{
	void *p = mmap(addr, P(pages), prot, ANON | MAP_FIXED | flags, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

/*
 * An unmapped range with a PROT_NONE page on either side, so that mappings in
 * it do not merge with a neighbour, and mmap() does not choose it. With
 * aliasing caches, shared memory can be mapped at its start.
 */
static inline char *hole(unsigned long pages)
{
	unsigned long align = SHMLBA, spare = align - psize();
	char *all = mmap(NULL, P(pages + 2) + spare, PROT_NONE, ANON, -1, 0);
	char *p;

	if (all == MAP_FAILED)
		return NULL;
	p = (char *)(((unsigned long)all + P(1) + spare) & ~(align - 1));
	if (p - P(1) > all)
		munmap(all, p - P(1) - all);
	if (p + P(pages + 1) < all + P(pages + 2) + spare)
		munmap(p + P(pages + 1), all + spare + P(1) - p);
	munmap(p, P(pages));
	return p;
}

/* An anonymous, private and writable vma in such a hole. */
static inline char *region(unsigned long pages)
{
	char *p = hole(pages);

	if (!p || map_anon(p, pages, RW, 0))
		return NULL;
	return p;
}

static inline void touch(char *addr, unsigned long pages)
{
	for (unsigned long i = 0; i < pages; i++)
		*(volatile char *)(addr + P(i)) = 1;
}

/* A shared vma in a hole, with all its pages present and written to. */
static inline char *shared_region(unsigned long pages)
{
	char *p = hole(pages);

	if (!p || mmap(p, P(pages), RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
		       -1, 0) != p)
		return NULL;
	touch(p, pages);
	return p;
}

/*
 * Reads a line without allocating, since mlockall(MCL_FUTURE) may be in effect.
 */
struct reader {
	int fd;
	size_t pos, len;
	char buf[4096];
};

static struct reader reader;

static inline bool read_open(const char *path)
{
	reader.pos = 0;
	reader.len = 0;
	reader.fd = open(path, O_RDONLY | O_CLOEXEC);
	return reader.fd >= 0;
}

static inline bool read_line(char *line, size_t size)
{
	size_t n = 0;

	for (;;) {
		if (reader.pos == reader.len) {
			ssize_t got = read(reader.fd, reader.buf,
					   sizeof(reader.buf));

			if (got <= 0) {
				close(reader.fd);
				return false;
			}
			reader.pos = 0;
			reader.len = got;
		}

		char c = reader.buf[reader.pos++];

		if (c == '\n')
			break;
		if (n + 1 < size)
			line[n++] = c;
	}
	line[n] = '\0';
	return true;
}

/* The number that follows @key at the start of a line, or -1. */
static inline long find_number(const char *path, const char *key)
{
	char line[512];
	long val = -1;
	size_t n = strlen(key);

	if (!read_open(path))
		return -1;
	while (read_line(line, sizeof(line))) {
		if (val == -1 && !strncmp(line, key, n))
			val = strtol(line + n, NULL, 10);
	}
	return val;
}

/* The value of a setting, or its choice in brackets. */
static inline bool read_setting(const char *path, char *val, size_t size)
{
	char line[256], *from = line, *to;

	if (!read_open(path))
		return false;
	if (!read_line(line, sizeof(line)))
		return false;
	close(reader.fd);
	to = strchr(line, ']');
	if (to) {
		*to = '\0';
		from = strchr(line, '[');
		if (!from++)
			return false;
	}
	if (strlen(from) >= size)
		return false;
	strcpy(val, from);
	return true;
}

static inline bool file_says(const char *path, const char *word)
{
	char line[512];
	bool found = false;

	if (!read_open(path))
		return false;
	while (read_line(line, sizeof(line)))
		found |= !!strstr(line, word);
	return found;
}

/* Converts a value in kB to pages. */
static inline long find_pages(const char *path, const char *key)
{
	long kb = find_number(path, key);

	return kb < 0 ? kb : kb / (long)(psize() / 1024);
}

static inline long status_pages(const char *key)
{
	return find_pages("/proc/self/status", key);
}

/* The charge of this process for locked memory, in pages. */
static inline long charged(void)
{
	return status_pages("VmLck:");
}

static inline int write_str(const char *path, const char *str)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, str, strlen(str));
	ret = ret < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static inline int write_ulong(const char *path, unsigned long val)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%lu", val);
	return write_str(path, buf);
}

/* A file whose first line is a number. */
static inline long read_knob(const char *path)
{
	return find_number(path, "");
}

#define MAX_MAP_COUNT "/proc/sys/vm/max_map_count"

/*
 * Sets the soft limit only, so that it can be raised again without privilege.
 */
static inline int set_limit(unsigned long bytes)
{
	struct rlimit lim = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };

	return setrlimit(RLIMIT_MEMLOCK, &lim);
}

static inline int set_cap_ipc_lock(bool on)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(__NR_capget, &head, data))
		return -1;
	if (on)
		data[0].effective |= 1U << CAP_IPC_LOCK;
	else
		data[0].effective &= ~(1U << CAP_IPC_LOCK);
	return syscall(__NR_capset, &head, data);
}

/* Makes the process subject to the limit. /proc/self stays readable. */
static inline int drop_cap(void)
{
	return set_cap_ipc_lock(false);
}

static inline int regain_cap(void)
{
	return set_cap_ipc_lock(true);
}

static inline int reap(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static inline int run_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* What smaps shows for the vmas that overlap a range; sizes in pages. */
struct range {
	unsigned int vmas;
	unsigned int lo;
	unsigned int lf;
	unsigned long rss;
	unsigned long referenced;
	unsigned long locked;
	unsigned long hugetlb;
	unsigned long thp;
	unsigned long swap;
	unsigned long start;
	unsigned long end;
};

static inline struct range look_bytes(unsigned long from, unsigned long to)
{
	struct range r = { 0 };
	const struct {
		const char *key;
		unsigned long *sum;
	} sizes[] = {
		{ "Rss:", &r.rss },
		{ "Referenced:", &r.referenced },
		{ "Locked:", &r.locked },
		{ "AnonHugePages:", &r.thp },
		{ "Swap:", &r.swap },
		{ "Private_Hugetlb:", &r.hugetlb },
		{ "Shared_Hugetlb:", &r.hugetlb },
	};
	bool inside = false;
	char line[512];

	if (!read_open("/proc/self/smaps"))
		ksft_exit_fail_msg("cannot open smaps: %s\n", strerror(errno));
	while (read_line(line, sizeof(line))) {
		/*
		 * Only the first line of a vma does not begin with a capital
		 * letter.
		 */
		if (line[0] < 'A' || line[0] > 'Z') {
			char *next;
			unsigned long start = strtoul(line, &next, 16);
			unsigned long end = strtoul(next + 1, NULL, 16);

			if (start >= to) {
				close(reader.fd);
				break;
			}
			inside = end > from;
			if (inside) {
				if (!r.vmas++)
					r.start = start;
				r.end = end;
			}
			continue;
		}
		if (!inside)
			continue;
		if (!strncmp(line, "VmFlags:", 8)) {
			r.lo += !!strstr(line, " lo");
			r.lf += !!strstr(line, " lf");
			continue;
		}
		for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
			size_t n = strlen(sizes[i].key);

			if (strncmp(line, sizes[i].key, n))
				continue;
			*sizes[i].sum += strtoul(line + n, NULL, 10) /
					 (psize() / 1024);
		}
	}
	return r;
}

static inline struct range look(const void *addr, unsigned long pages)
{
	return look_bytes((unsigned long)addr, (unsigned long)addr + P(pages));
}

/* The whole process. */
static inline struct range look_all(void)
{
	return look_bytes(0, ULONG_MAX);
}

#define EXPECT_VMAS(addr, pages, nr, nr_lo, nr_lf) do {			\
	struct range range_ = look(addr, pages);			\
									\
	EXPECT_EQ(nr, range_.vmas);					\
	EXPECT_EQ(nr_lo, range_.lo);					\
	EXPECT_EQ(nr_lf, range_.lf);					\
} while (0)

#define UNLOCKED(addr, pages)	EXPECT_VMAS(addr, pages, 1, 0, 0)
#define LOCKED(addr, pages)	EXPECT_VMAS(addr, pages, 1, 1, 0)
#define ONFAULT(addr, pages)	EXPECT_VMAS(addr, pages, 1, 1, 1)

/* Finds a mapping such as "[vvar]"; false if there is none. */
static inline bool find_mapping(const char *name, unsigned long *start,
				unsigned long *end)
{
	char line[512];
	bool found = false;

	if (!read_open("/proc/self/maps"))
		return false;
	while (read_line(line, sizeof(line))) {
		if (!found && strstr(line, name))
			found = sscanf(line, "%lx-%lx ", start, end) == 2;
	}
	return found;
}

/*
 * Copies the pages that are still shared with the parent. A fault that needs
 * memory when there is none, and no process to kill, is retried forever.
 */
static inline void copy_shared_pages(void)
{
	unsigned long start, end;
	char line[512], prot[5];

	if (!read_open("/proc/self/maps"))
		return;
	while (read_line(line, sizeof(line))) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, prot) == 3 &&
		    !strcmp(prot, "rw-p"))
			madvise((void *)start, end - start, MADV_POPULATE_WRITE);
	}
}

/*
 * Whether the address space of the program ends where that of the kernel does.
 * It does not for a 32-bit program whose kernel zero-extends lengths. msync()
 * rounds a length up as mlock() does, and accepts a length of 0.
 */
static inline bool lengths_wrap(void)
{
	return !syscall(__NR_msync, NULL, ULONG_MAX, MS_ASYNC);
}

/* Whether the kernel sign-extends the lengths of a 32-bit program. */
static inline bool lengths_extend(void)
{
	return sizeof(long) == 4 && lengths_wrap() &&
	       file_says("/sys/kernel/address_bits", "64");
}

static inline int open_pagemap(void)
{
	return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
}

/* Entries of /proc/PID/pagemap to read at once. */
#define ENTRIES 256

static inline unsigned long read_pagemap(int map, char *addr, unsigned long pages,
					 uint64_t *entry)
{
	off_t at = (unsigned long)addr / psize() * sizeof(*entry);
	ssize_t len;

	if (pages > ENTRIES)
		pages = ENTRIES;
	len = pages * sizeof(*entry);
	if (pread(map, entry, len, at) != len)
		ksft_exit_fail_msg("cannot read pagemap: %s\n", strerror(errno));
	return pages;
}

/*
 * Counts the pages of the range that have the bit set in the pagemap @map,
 * which may be that of another process.
 */
static inline unsigned long count_entries(int map, char *addr, unsigned long pages,
					  uint64_t bit)
{
	unsigned long n = 0, got;
	uint64_t entry[ENTRIES];

	for (; pages; pages -= got, addr += P(got)) {
		got = read_pagemap(map, addr, pages, entry);
		for (unsigned long i = 0; i < got; i++)
			n += !!(entry[i] & bit);
	}
	return n;
}

static inline unsigned long count_pagemap(char *addr, unsigned long pages, uint64_t bit)
{
	int map = open_pagemap();
	unsigned long n = count_entries(map, addr, pages, bit);

	close(map);
	return n;
}

static inline unsigned long present(char *addr, unsigned long pages)
{
	return count_pagemap(addr, pages, PM_PRESENT);
}

/*
 * Counts the present pages of the range that have the bit set in
 * /proc/kpageflags.
 */
static inline unsigned long count_kpageflag(char *addr, unsigned long pages, int bit)
{
	int kpf = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	int map = open_pagemap();
	unsigned long n = 0, got;
	uint64_t entry[ENTRIES];

	for (; pages; pages -= got, addr += P(got)) {
		got = read_pagemap(map, addr, pages, entry);
		for (unsigned long i = 0; i < got; i++) {
			uint64_t flags;

			if (entry[i] & PM_PRESENT &&
			    !pageflags_get(PAGEMAP_PFN(entry[i]), kpf, &flags))
				n += !!(flags & BIT_ULL(bit));
		}
	}
	close(map);
	close(kpf);
	return n;
}

static inline unsigned long unevictable(char *addr, unsigned long pages)
{
	return count_kpageflag(addr, pages, KPF_UNEVICTABLE);
}

static inline unsigned long mlocked(char *addr, unsigned long pages)
{
	return count_kpageflag(addr, pages, KPF_MLOCKED);
}

/*
 * Folios are pending in per-CPU batches, and zone counters in per-CPU deltas.
 * Drain both.
 *
 * drop_caches drains the batches of all CPUs. These tests do not depend on the
 * page cache that it drops. compact_memory drains them as well, but also
 * migrates locked pages.
 */
static inline bool drain(void)
{
	int ret;

	if (write_str("/proc/sys/vm/drop_caches", "1") &&
	    write_str("/proc/sys/vm/compact_memory", "1"))
		return false;
	/* A !SMP kernel has neither deltas nor this file. */
	ret = write_str("/proc/sys/vm/stat_refresh", "1");
	return !ret || ret == -ENOENT;
}

static inline long read_vmstat(const char *key)
{
	return find_number("/proc/vmstat", key);
}

/*
 * Whether the multi-gen LRU is in use. It has no active list, and does not mark
 * unevictable folios as referenced.
 */
static inline bool has_lru_gen(void)
{
	return find_number("/sys/kernel/mm/lru_gen/enabled", "0x") > 0;
}

/*
 * Removes the limit. Returns 0 if nothing is locked, so that a test may start.
 */
static inline long start_unlocked(void)
{
	return set_limit(RLIM_INFINITY) ? -errno : charged();
}

/* The argument that makes this program report its state after exec(). */
#define AFTER_EXEC "after-exec"

/*
 * Called by main() for that argument: a bit for each thing that survived
 * exec().
 */
static inline int after_exec(void)
{
	char *m = hole(2);
	int ret = 0;

	if (charged())
		ret |= 1;
	if (look_all().lo || look_all().lf)
		ret |= 2;
	if (!m || map_anon(m, 2, RW, 0) || look(m, 2).lo || present(m, 2))
		ret |= 4;
	if (charged())
		ret |= 8;
	return ret;
}

/* For a forked child: exit. For its parent: expect that the child succeeded. */
#define CHILD_DONE()	_exit(_metadata->exit_code)
#define REAP(pid)	EXPECT_EQ(0, reap(pid))

#endif
