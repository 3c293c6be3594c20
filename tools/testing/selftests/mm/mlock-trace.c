// SPDX-License-Identifier: GPL-2.0
/*
 * The trace events of the mlock family: the tests trigger each reason for a
 * refusal once, and compare every field of the event. Requests that succeed
 * must not emit it.
 *
 * Run as root, on a kernel with CONFIG_MLOCK2 and trace events. The tests use
 * their own tracefs instance, and need an idle machine: nobody else may lock
 * memory.
 *
 * Not tested: __account_locked_vm() and can_do_mlock() of drivers, and a vma
 * that another thread unmaps while its pages are faulted in.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-helpers.h"
#include "mlock-huge.h"

/* Constants that the C library may lack. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef __NR_memfd_secret
#define __NR_memfd_secret 447
#endif
#ifndef UFFD_FEATURE_SIGBUS
#define UFFD_FEATURE_SIGBUS (1 << 7)
#endif

#define TRACEFS "/sys/kernel/tracing"
#define INSTANCE TRACEFS "/instances/mlock-trace"
/* Folios of this size for shared memory */
#define LARGE (64UL << 10)
#define LARGE_SHMEM "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled"
#define CGROUPS "/sys/fs/cgroup"
#define GROUP CGROUPS "/mlock-trace"

/* Any group that owns nothing. */
#define SOMEBODY 54321

/* Pages below a stack, more than stack_guard_gap */
#define STACK_ROOM 1024

#define MAX_EVENTS 16

static struct event {
	char name[32];
	char text[480];
} events[MAX_EVENTS];

static int trace_pipe;

/* Reads the events since the last call, at most MAX_EVENTS. */
static int take_events(void)
{
	static char buf[16 << 10];
	ssize_t len = 0, got;
	char *line, *rest;
	int n = 0;

	while (len < (ssize_t)sizeof(buf) - 1) {
		got = read(trace_pipe, buf + len, sizeof(buf) - 1 - len);
		if (got <= 0)
			break;
		len += got;
	}
	buf[len] = '\0';

	for (line = strtok_r(buf, "\n", &rest); line && n < MAX_EVENTS;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *name = strstr(line, ": mlock"), *end;

		name = name ?: strstr(line, ": munlock");
		end = name ? strstr(name + 2, ": ") : NULL;
		if (!end)
			continue;
		name += 2;
		snprintf(events[n].name, sizeof(events[n].name), "%.*s",
			 (int)(end - name), name);
		snprintf(events[n].text, sizeof(events[n].text), "%s", end + 2);
		n++;
	}
	return n;
}

/* Counts the vmas of a process, without those of the kernel. */
static int map_count(const char *pid)
{
	char line[512], maps[32];
	int n = 0;

	snprintf(maps, sizeof(maps), "/proc/%s/maps", pid);
	if (!read_open(maps))
		return -1;
	while (read_line(line, sizeof(line)))
		n += !strstr(line, "[vsyscall]") && !strstr(line, "[vectors]");
	return n;
}

/* Whether a vma of this process begins there. */
static bool vma_begins_at(const char *addr)
{
	unsigned long start;
	char line[512];
	bool found = false;

	if (!read_open("/proc/self/maps"))
		return false;
	while (read_line(line, sizeof(line)))
		found |= sscanf(line, "%lx-", &start) == 1 && start == (unsigned long)addr;
	return found;
}

struct refusal {
	const char *caller;
	const char *reason;
	const char *cause;
	const char *state;
	const void *start;
	const void *at;
	unsigned long len;
	unsigned long locked;
	unsigned long total;
	unsigned long limit;
	pid_t owner;
	int map_count;
	int error;
};

/* Expects one refusal event, with all of its fields. */
static void check_refusal(struct __test_metadata *_metadata, int line, struct refusal r)
{
	char want[sizeof(events[0].text)], comm[32] = "";
	int n = take_events();

	prctl(PR_GET_NAME, comm);
	snprintf(want, sizeof(want),
		 "tgid=%d owner=%d caller=%s reason=%s error=%d start=0x%lx len=%lu locked=%lu total=%lu limit=%lu at=0x%lx cause=%s map_count=%d state=%s comm=%s",
		 getpid(), r.owner ?: getpid(), r.caller, r.reason, r.error, (unsigned long)r.start,
		 r.len, r.locked, r.total, r.limit, (unsigned long)r.at,
		 r.cause ?: "none", r.map_count ?: map_count("self"), r.state ?: "", comm);
	for (int i = 0; i < n; i++) {
		if (n == 1 && !strcmp(events[i].name, "mlock_refused") &&
		    !strcmp(events[i].text, want))
			return;
		TH_LOG("line %d: got  %s: %s", line, events[i].name, events[i].text);
	}
	TH_LOG("line %d: want mlock_refused: %s, one event and not %d", line, want, n);
	EXPECT_EQ(0, 1);
}

#define REFUSED(...) \
	check_refusal(_metadata, __LINE__, (struct refusal){ __VA_ARGS__ })

/* Expects these events, "name: fields" each, and no others. */
static void check_events(struct __test_metadata *_metadata, int line, int want, ...)
{
	int n = take_events(), wrong = n != want;
	va_list ap;

	va_start(ap, want);
	for (int i = 0; i < want; i++) {
		char *text = va_arg(ap, char *), got[sizeof(events[0])] = "nothing";

		if (i < n)
			snprintf(got, sizeof(got), "%s: %s", events[i].name,
				 events[i].text);
		if (!text || strcmp(got, text)) {
			TH_LOG("line %d: got  %s", line, got);
			TH_LOG("line %d: want %s", line, text ?: "?");
			wrong = 1;
		}
		free(text);
	}
	va_end(ap);
	for (int i = want; i < n; i++)
		TH_LOG("line %d: too many: %s: %s", line, events[i].name, events[i].text);
	EXPECT_EQ(0, wrong);
}

#define NO_EVENTS()	check_events(_metadata, __LINE__, 0)
#define EVENTS(n, ...)	check_events(_metadata, __LINE__, n, __VA_ARGS__)

static __attribute__((format(printf, 1, 2))) char *text(const char *fmt, ...)
{
	char *str = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&str, fmt, ap) < 0)
		str = NULL;
	va_end(ap);
	return str;
}

static char *vma_text(const char *p, unsigned long pages, const char *from,
		      const char *to, long charged)
{
	return text("mlock_vma: start=0x%lx end=0x%lx from=%s to=%s pages=%ld",
		    (unsigned long)p, (unsigned long)p + P(pages), from, to, charged);
}

/* Drops CAP_IPC_LOCK for good, and nothing else that root has. */
static int drop_ipc_lock(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (syscall(__NR_capget, &head, data))
		return -1;
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	data[0].permitted &= ~(1U << CAP_IPC_LOCK);
	return syscall(__NR_capset, &head, data);
}

static bool have_events(void)
{
	struct stat st;

	if (stat(TRACEFS "/events", &st))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	return !stat(TRACEFS "/events/mlock/mlock_refused/enable", &st);
}

/* The events exist with MLOCK2 only, and not without tracefs. */
TEST(events_are_those_of_mlock2)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!file_says("/proc/kallsyms", "mlock"))
		SKIP(return, "no kallsyms");
	EXPECT_EQ(file_says("/proc/kallsyms", " mlock2_mlock2") &&
		  file_says("/proc/filesystems", "tracefs"), have_events());
}

FIXTURE(mlock_trace)
{
	bool on;
};

FIXTURE_SETUP(mlock_trace)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!have_events())
		SKIP(return, "no trace events of mlock");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	if (mkdir(INSTANCE, 0700))
		ASSERT_EQ(EEXIST, errno);
	self->on = true;
	ASSERT_EQ(0, write_str(INSTANCE "/trace", ""));
	ASSERT_EQ(0, write_str(INSTANCE "/events/mlock/mlock_refused/enable", "1"));
	trace_pipe = open(INSTANCE "/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, trace_pipe);
	take_events();
}

FIXTURE_TEARDOWN(mlock_trace)
{
	if (!self->on)
		return;
	close(trace_pipe);
	write_str(INSTANCE "/events/enable", "0");
	rmdir(INSTANCE);
}

TEST_F(mlock_trace, limit_zero)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, set_limit(0));

	EXPECT_EQ(-EPERM, do_mlock(p + 1, P(1)));
	REFUSED("mlock", "limit_zero", .error = -EPERM, .start = p, .len = P(2));
	EXPECT_EQ(-EPERM, do_mlock2(p, P(1), MLOCK_ONFAULT));
	REFUSED("mlock2", "limit_zero", .error = -EPERM, .start = p, .len = P(1));
	EXPECT_EQ(-EPERM, do_mlockall(MCL_CURRENT));
	REFUSED("mlockall", "limit_zero", .error = -EPERM);
	EXPECT_EQ(-EPERM, map_anon(p, 2, RW, MAP_LOCKED));
	REFUSED("mmap", "limit_zero", .error = -EPERM, .len = P(2));
}

TEST_F(mlock_trace, over_limit)
{
	char *p = region(8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, set_limit(P(4) + 1));

	EXPECT_EQ(-ENOMEM, do_mlock(p, P(5)));
	REFUSED("mlock", "over_limit", .error = -ENOMEM, .start = p, .len = P(5),
		.total = 5, .limit = P(4) + 1);
	EXPECT_EQ(0, do_mlock(p, P(3)));
	NO_EVENTS();
	/* One page of it is locked already, and not charged twice. */
	EXPECT_EQ(0, do_mlock(p + P(2), P(2)));
	NO_EVENTS();
	EXPECT_EQ(-ENOMEM, do_mlock2(p + P(2) + 1, P(3), MLOCK_ONFAULT));
	REFUSED("mlock2", "over_limit", .error = -ENOMEM, .start = p + P(2),
		.len = P(4), .locked = 4, .total = 6, .limit = P(4) + 1);
	EXPECT_EQ(-EAGAIN, map_anon(p + P(6), 2, RW, MAP_LOCKED));
	REFUSED("mmap", "over_limit", .error = -EAGAIN, .len = P(2), .locked = 4,
		.total = 6, .limit = P(4) + 1);
}

TEST_F(mlock_trace, over_limit_of_all)
{
	long pages;

	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, set_limit(P(1)));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
	pages = status_pages("VmSize:");
	REFUSED("mlockall", "over_limit", .error = -ENOMEM, .len = P(pages),
		.total = pages, .limit = P(1));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
	REFUSED("mlockall", "over_limit", .error = -ENOMEM, .len = P(pages),
		.total = pages, .limit = P(1));
}

TEST_F(mlock_trace, over_limit_of_what_grows)
{
	char *p = hole(STACK_ROOM + 8), *stack = p + P(STACK_ROOM);
	char *brk = (char *)syscall(__NR_brk, 0);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, map_anon(p, 2, RW, MAP_LOCKED));
	/*
	 * The stack grows down for an access, but keeps a gap to the mapping
	 * below.
	 */
	ASSERT_EQ(0, map_anon(stack, 1, RW, MAP_GROWSDOWN | MAP_LOCKED));
	brk = (char *)(((unsigned long)brk + P(1) - 1) & -P(1));
	brk = (char *)syscall(__NR_brk, brk);
	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, set_limit(P(3)));
	NO_EVENTS();

	EXPECT_EQ(MAP_FAILED, mremap(p, P(2), P(3), MREMAP_MAYMOVE));
	EXPECT_EQ(EAGAIN, errno);
	REFUSED("mremap", "over_limit", .error = -EAGAIN, .len = P(1), .locked = 3,
		.total = 4, .limit = P(3));

	/*
	 * A system call that writes to the stack fails instead of raising
	 * SIGSEGV.
	 */
	EXPECT_EQ(-1, read(open("/dev/zero", O_RDONLY), stack - 1, 1));
	EXPECT_EQ(EFAULT, errno);
	REFUSED("stack", "over_limit", .error = -ENOMEM, .len = P(1), .locked = 3,
		.total = 4, .limit = P(3));

	EXPECT_EQ(0, do_mlockall(MCL_FUTURE | MCL_ONFAULT));
	NO_EVENTS();
	EXPECT_EQ(brk, (char *)syscall(__NR_brk, brk + P(2)));
	REFUSED("brk", "over_limit", .error = -ENOMEM, .len = P(2), .locked = 3,
		.total = 5, .limit = P(3), .state = "future");
	EXPECT_EQ(-EAGAIN, map_anon(p + P(3), 1, RW, 0));
	REFUSED("mmap", "over_limit", .error = -EAGAIN, .len = P(1), .locked = 3,
		.total = 4, .limit = P(3), .state = "future");
}

/* A debugger writes below a stack, whose growth is charged to its owner. */
TEST_F(mlock_trace, stack_of_another_process)
{
	char *p = hole(STACK_ROOM + 1), *stack = p + P(STACK_ROOM), id[16];
	pid_t pid;

	ASSERT_NE(NULL, p);
	/* Without memory cgroups, the kernel does not know the owner. */
	if (!file_says("/proc/cgroups", "memory") && access(CGROUPS "/memory.stat", F_OK))
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, set_limit(P(1)));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) ||
		    map_anon(stack, 1, RW, MAP_GROWSDOWN | MAP_LOCKED) ||
		    do_mlockall(MCL_FUTURE))
			_exit(1);
		raise(SIGSTOP);
		_exit(1);
	}
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	NO_EVENTS();
	snprintf(id, sizeof(id), "%d", pid);
	EXPECT_EQ(-1, ptrace(PTRACE_POKEDATA, pid, stack - sizeof(long), NULL));
	REFUSED("stack", "over_limit", .error = -ENOMEM, .len = P(1), .locked = 1,
		.total = 2, .limit = P(1), .owner = pid, .map_count = map_count(id),
		.state = "future");
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
}

/* CAP_IPC_LOCK in a user namespace does not count. */
TEST_F(mlock_trace, capability_in_a_namespace)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, set_limit(P(1)));
	if (unshare(CLONE_NEWUSER))
		SKIP(return, "no user namespaces");
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	REFUSED("mlock", "over_limit", .error = -ENOMEM, .start = p, .len = P(2),
		.total = 2, .limit = P(1), .state = "ns_cap");
	/* Without that capability, the event does not mention it. */
	ASSERT_EQ(0, drop_ipc_lock());
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	REFUSED("mlock", "over_limit", .error = -ENOMEM, .start = p, .len = P(2),
		.total = 2, .limit = P(1));
	/*
	 * The user namespace does not own the instance; the parent removes it.
	 */
	self->on = false;
}

TEST_F(mlock_trace, over_user_limit)
{
	int a = shmget(IPC_PRIVATE, P(2), IPC_CREAT | 0600);
	int b = shmget(IPC_PRIVATE, P(3) + 1, IPC_CREAT | 0600);

	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	ASSERT_EQ(0, drop_ipc_lock());
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(0, shmctl(a, SHM_LOCK, NULL));
	NO_EVENTS();
	EXPECT_EQ(-ENOMEM, neg_errno(shmctl(b, SHM_LOCK, NULL)));
	REFUSED("shm_lock", "over_user_limit", .error = -ENOMEM, .len = P(3) + 1,
		.locked = 2, .total = 6, .limit = P(5));
	/* For the owner, the capability matters only if the limit is 0. */
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, neg_errno(shmctl(b, SHM_LOCK, NULL)));
	REFUSED("shm_lock", "limit_zero", .error = -EPERM, .len = P(3) + 1);
	EXPECT_EQ(0, shmctl(a, IPC_RMID, NULL));
	EXPECT_EQ(0, shmctl(b, IPC_RMID, NULL));
	NO_EVENTS();
}

/* The limit of who made a namespace binds all in there, whatever their own is. */
TEST_F(mlock_trace, over_user_limit_of_a_namespace)
{
	struct rlimit limit = { P(3), RLIM_INFINITY };
	int id;

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	if (unshare(CLONE_NEWUSER))
		SKIP(return, "no user namespaces");
	/*
	 * The user namespace does not own the instance; the parent removes it.
	 */
	self->on = false;
	limit.rlim_cur = P(8);
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	id = shmget(IPC_PRIVATE, P(4), IPC_CREAT | 0600);
	ASSERT_LE(0, id);
	EXPECT_EQ(-ENOMEM, neg_errno(shmctl(id, SHM_LOCK, NULL)));
	REFUSED("shm_lock", "over_user_limit", .error = -ENOMEM, .len = P(4),
		.total = 4, .limit = P(8), .state = "ns_cap");
	EXPECT_EQ(0, shmctl(id, IPC_RMID, NULL));
}

TEST_F(mlock_trace, not_the_owner)
{
	int id = shmget(IPC_PRIVATE, P(2), IPC_CREAT | 0666);

	ASSERT_LE(0, id);
	ASSERT_EQ(0, setresuid(SOMEBODY, SOMEBODY, 0));
	ASSERT_EQ(0, drop_ipc_lock());
	EXPECT_EQ(-EPERM, neg_errno(shmctl(id, SHM_LOCK, NULL)));
	REFUSED("shm_lock", "not_permitted", .error = -EPERM, .len = P(2));
	/* That is no request to lock. */
	EXPECT_EQ(-EPERM, neg_errno(shmctl(id, SHM_UNLOCK, NULL)));
	NO_EVENTS();
	ASSERT_EQ(0, setresuid(0, 0, 0));
	EXPECT_EQ(0, shmctl(id, IPC_RMID, NULL));
}

TEST_F(mlock_trace, not_permitted)
{
	long kb = find_number("/proc/meminfo", "Hugepagesize:");
	int id;

	if (kb < 0)
		SKIP(return, "no hugetlb");
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(SOMEBODY, SOMEBODY, SOMEBODY));
	ASSERT_EQ(0, drop_ipc_lock());
	/* Whatever the limit is. */
	id = shmget(IPC_PRIVATE, kb << 10, IPC_CREAT | SHM_HUGETLB | 0600);
	EXPECT_EQ(-EPERM, neg_errno(id));
	REFUSED("shm_hugetlb", "not_permitted", .error = -EPERM, .len = kb << 10);
	ASSERT_EQ(0, set_limit(P(1)));
	id = shmget(IPC_PRIVATE, kb << 10, IPC_CREAT | SHM_HUGETLB | 0600);
	EXPECT_EQ(-EPERM, neg_errno(id));
	REFUSED("shm_hugetlb", "not_permitted", .error = -EPERM, .len = kb << 10);
}

TEST_F(mlock_trace, hole_and_not_mapped)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(1)));
	ASSERT_EQ(0, munmap(p + P(5), P(1)));

	EXPECT_EQ(-ENOMEM, do_mlock(p + 1, P(4)));
	REFUSED("mlock", "hole", .error = -ENOMEM, .start = p, .len = P(5),
		.at = p + P(2));
	EXPECT_EQ(-ENOMEM, do_mlock2(p + P(3), P(3), MLOCK_ONFAULT));
	REFUSED("mlock2", "hole", .error = -ENOMEM, .start = p + P(3), .len = P(3),
		.at = p + P(5));
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(4)));
	REFUSED("munlock", "hole", .error = -ENOMEM, .start = p, .len = P(4),
		.at = p + P(2));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(2), P(2)));
	REFUSED("mlock", "not_mapped", .error = -ENOMEM, .start = p + P(2),
		.len = P(2), .at = p + P(2));
	EXPECT_EQ(-ENOMEM, do_munlock(p + P(5), P(1)));
	REFUSED("munlock", "not_mapped", .error = -ENOMEM, .start = p + P(5),
		.len = P(1), .at = p + P(5));
}

TEST_F(mlock_trace, range_wraps)
{
	char *last = (char *)-P(1);

	if (sizeof(long) == 4 && file_says("/sys/kernel/address_bits", "64")) {
		/* The address space of this kernel extends above it. */
		EXPECT_EQ(-ENOMEM, do_mlock(last, P(1)));
		REFUSED("mlock", "not_mapped", .error = -ENOMEM, .start = last,
			.len = P(1), .at = last);
		return;
	}
	EXPECT_EQ(-EINVAL, do_mlock(last, P(1)));
	REFUSED("mlock", "range_wraps", .error = -EINVAL, .start = last, .len = P(1));
	EXPECT_EQ(-EINVAL, do_munlock(last - P(1), P(3)));
	REFUSED("munlock", "range_wraps", .error = -EINVAL, .start = last - P(1),
		.len = P(3));
}

TEST_F(mlock_trace, bad_flags)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(-EINVAL, do_mlock2(p + 1, 5, 0x80));
	REFUSED("mlock2", "bad_flags", .error = -EINVAL, .start = p + 1, .len = 5);
	EXPECT_EQ(-EINVAL, do_mlockall(0));
	REFUSED("mlockall", "bad_flags", .error = -EINVAL);
	EXPECT_EQ(-EINVAL, do_mlockall(MCL_ONFAULT));
	REFUSED("mlockall", "bad_flags", .error = -EINVAL);
}

TEST_F(mlock_trace, too_many_vmas)
{
	long max = find_number(MAX_MAP_COUNT, "");
	char *p = region(8);
	long at_first, at_end;

	ASSERT_NE(NULL, p);
	ASSERT_LT(0, max);
	ASSERT_EQ(0, write_ulong(MAX_MAP_COUNT, map_count("self")));
	at_end = do_mlock2(p + P(2), P(2), MLOCK_ONFAULT);
	EXPECT_EQ(0, write_ulong(MAX_MAP_COUNT, max));
	EXPECT_EQ(-ENOMEM, at_end);
	REFUSED("mlock2", "too_many_vmas", .error = -ENOMEM, .start = p + P(2),
		.len = P(2), .at = p + P(2));

	/* One of the two splits succeeds. */
	ASSERT_EQ(0, write_ulong(MAX_MAP_COUNT, map_count("self") + 1));
	at_first = do_mlock(p + P(2), P(2));
	EXPECT_EQ(0, write_ulong(MAX_MAP_COUNT, max));
	EXPECT_EQ(-ENOMEM, at_first);
	REFUSED("mlock", "too_many_vmas", .error = -ENOMEM, .start = p + P(2),
		.len = P(2), .at = p + P(4));
	/* The first split was not undone; the second one fails again. */
	ASSERT_EQ(0, write_ulong(MAX_MAP_COUNT, map_count("self")));
	at_first = do_mlock(p + P(2), P(2));
	EXPECT_EQ(0, write_ulong(MAX_MAP_COUNT, max));
	EXPECT_EQ(-ENOMEM, at_first);
	REFUSED("mlock", "too_many_vmas", .error = -ENOMEM, .start = p + P(2),
		.len = P(2), .at = p + P(4));

	ASSERT_EQ(0, do_mlock2(p, P(8), MLOCK_ONFAULT));
	ASSERT_EQ(0, write_ulong(MAX_MAP_COUNT, map_count("self")));
	at_end = do_munlock(p + P(6), P(1));
	EXPECT_EQ(0, write_ulong(MAX_MAP_COUNT, max));
	EXPECT_EQ(-ENOMEM, at_end);
	REFUSED("munlock", "too_many_vmas", .error = -ENOMEM, .start = p + P(6),
		.len = P(1), .at = p + P(6));
}

/* A child in its own memory cgroup, without the OOM killer. */
static pid_t fork_in_group(struct __test_metadata *_metadata, bool *none)
{
	pid_t pid;

	if (access(CGROUPS "/cgroup.controllers", F_OK))
		mount("cgroup2", CGROUPS, "cgroup2", 0, NULL);
	write_str(CGROUPS "/cgroup.subtree_control", "+memory");
	*none = (mkdir(GROUP, 0755) && errno != EEXIST) ||
		access(GROUP "/memory.max", F_OK);
	if (*none)
		return -1;
	pid = fork();
	if (!pid) {
		EXPECT_EQ(0, write_str("/proc/self/oom_score_adj", "-1000"));
		EXPECT_EQ(0, write_str(GROUP "/cgroup.procs", "0"));
		copy_shared_pages();
	}
	return pid;
}

TEST_F(mlock_trace, no_memory_for_vma)
{
	unsigned long pages = 4096, i;
	bool none;
	pid_t pid = fork_in_group(_metadata, &none);

	if (none)
		SKIP(return, "no memory cgroups");
	if (!pid) {
		int max = open(GROUP "/memory.max", O_WRONLY | O_CLOEXEC);
		char *p = region(pages);
		long ret = 0;

		ASSERT_NE(NULL, p);
		/* Memory charged in advance is used up first. */
		ASSERT_EQ(1, write(max, "0", 1));
		for (i = 1; i < pages && !ret; i += 2)
			ret = do_mlock2(p + P(i), P(1), MLOCK_ONFAULT);
		ASSERT_EQ(3, write(max, "max", 3));
		i -= 2;
		EXPECT_EQ(-ENOMEM, ret);
		/* Either cut may have been the one. */
		REFUSED("mlock2", "no_memory_for_vma", .error = -ENOMEM,
			.start = p + P(i), .len = P(1),
			.at = p + P(vma_begins_at(p + P(i)) ? i + 1 : i));
		CHILD_DONE();
	}
	REAP(pid);
	rmdir(GROUP);
}

TEST_F(mlock_trace, populate_without_memory)
{
	unsigned long pages = (16UL << 20) / psize();
	bool none;
	pid_t pid = fork_in_group(_metadata, &none);

	if (none)
		SKIP(return, "no memory cgroups");
	if (!pid) {
		int max = open(GROUP "/memory.max", O_WRONLY | O_CLOEXEC);
		char *p = region(pages);
		unsigned long there;
		long ret;

		ASSERT_NE(NULL, p);
		ASSERT_EQ(0, write_ulong(GROUP "/memory.max", P(pages / 4)));
		ret = do_mlock(p, P(pages));
		ASSERT_EQ(3, write(max, "max", 3));
		EXPECT_EQ(-EAGAIN, ret);
		/* Pages are faulted in one after the other. */
		there = present(p, pages);
		REFUSED("mlock", "populate_failed", .error = -EAGAIN, .start = p,
			.len = P(pages), .at = p + P(there), .cause = "no_memory");
		CHILD_DONE();
	}
	REAP(pid);
	rmdir(GROUP);
}

TEST_F(mlock_trace, populate_without_access)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p + P(2), P(1), PROT_NONE));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	NO_EVENTS();
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(1), P(3)));
	REFUSED("mlock", "populate_failed", .error = -ENOMEM, .start = p + P(1),
		.len = P(3), .at = p + P(2), .cause = "no_access");
	/* Neither mmap() nor mlockall() fails for that. */
	EXPECT_EQ(0, map_anon(p, 4, PROT_NONE, MAP_LOCKED));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(0, do_munlockall());
	NO_EVENTS();
}

TEST_F(mlock_trace, populate_past_the_end)
{
	int fd = memfd_create("mlock-trace", MFD_CLOEXEC);
	char *p = hole(4);

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ftruncate(fd, P(2) + 1));
	for (int shared = 0; shared < 2; shared++) {
		ASSERT_EQ(p, mmap(p, P(4), RW, MAP_FIXED |
				  (shared ? MAP_SHARED : MAP_PRIVATE), fd, 0));
		EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
		REFUSED("mlock", "populate_failed", .error = -ENOMEM, .start = p,
			.len = P(4), .at = p + P(3), .cause = "past_eof");
		EXPECT_EQ(3, present(p, 4));
		EXPECT_EQ(0, do_mlock(p, P(3)));
		NO_EVENTS();
	}
}

TEST_F(mlock_trace, populate_a_guard_region)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	if (madvise(p + P(1), P(1), MADV_GUARD_INSTALL))
		SKIP(return, "no guard regions");
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	REFUSED("mlock", "populate_failed", .error = -ENOMEM, .start = p,
		.len = P(4), .at = p + P(1), .cause = "guard");
	EXPECT_EQ(0, do_mlock(p + P(2), P(2)));
	NO_EVENTS();
}

TEST_F(mlock_trace, populate_secret_memory)
{
	int fd = syscall(__NR_memfd_secret, 0);
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_EQ(0, ftruncate(fd, P(2)));
	ASSERT_EQ(0, map_anon(p, 1, RW, 0));
	ASSERT_EQ(p + P(1), mmap(p + P(1), P(2), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	REFUSED("mlock", "populate_failed", .error = -ENOMEM, .start = p,
		.len = P(3), .at = p + P(1), .cause = "secretmem");
}

static int uffd_for(char *p, unsigned long pages, unsigned long features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (unsigned long)p, P(pages) },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

TEST_F(mlock_trace, populate_by_nobody)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	touch(p, 2);
	if (uffd_for(p, 3, UFFD_FEATURE_SIGBUS) < 0)
		SKIP(return, "no userfaultfd");
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	REFUSED("mlock", "populate_failed", .error = -ENOMEM, .start = p,
		.len = P(3), .at = p + P(2), .cause = "sigbus");
}

TEST_F(mlock_trace, killed)
{
	struct uffd_msg msg;
	char *p = region(2), want[256];
	int fd, n, status;
	pid_t pid;

	ASSERT_NE(NULL, p);
	/* Nobody handles the fault of the child, so the child waits. */
	fd = uffd_for(p, 2, 0);
	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, close(fd));
	pid = fork();
	if (!pid) {
		fd = uffd_for(p, 2, 0);
		if (fd < 0)
			_exit(1);
		if (fork() == 0) {
			/* The fault message shows that the parent waits. */
			if (read(fd, &msg, sizeof(msg)) == sizeof(msg))
				kill(getppid(), SIGKILL);
			_exit(0);
		}
		do_mlock(p, P(2));
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	snprintf(want, sizeof(want),
		 "tgid=%d owner=%d caller=mlock reason=killed error=%d start=0x%lx len=%lu locked=0 total=0 limit=0 at=0x0 cause=none map_count=",
		 pid, pid, -EINTR, (unsigned long)p, P(2));
	n = take_events();
	ASSERT_EQ(1, n);
	EXPECT_STREQ("mlock_refused", events[0].name);
	events[0].text[strlen(want)] = '\0';
	EXPECT_STREQ(want, events[0].text);
}

TEST_F(mlock_trace, success_is_no_refusal)
{
	char *p = region(8), *q;

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock(p, P(8)));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock(p, 0));
	EXPECT_EQ(0, do_munlock(p + P(2), P(2)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
	q = mmap(NULL, P(4), RW, ANON, -1, 0);
	EXPECT_NE(MAP_FAILED, q);
	q = mremap(q, P(4), P(8), MREMAP_MAYMOVE);
	EXPECT_NE(MAP_FAILED, q);
	EXPECT_EQ(0, munmap(q, P(8)));
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, map_anon(p, 8, RW, MAP_LOCKED));
	/* By CAP_IPC_LOCK, and then by the limit alone. */
	ASSERT_EQ(0, munmap(p, P(8)));
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(0, map_anon(p, 8, RW, MAP_LOCKED));
	ASSERT_EQ(0, munmap(p, P(8)));
	ASSERT_EQ(0, set_limit(P(8)));
	ASSERT_EQ(0, drop_cap());
	EXPECT_EQ(0, map_anon(p, 8, RW, MAP_LOCKED));
	NO_EVENTS();
}

TEST_F(mlock_trace, vma)
{
	char *p = region(8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, write_str(INSTANCE "/events/mlock/mlock_vma/enable", "1"));
	EXPECT_EQ(0, do_mlock(p + P(2), P(3)));
	EVENTS(1, vma_text(p + P(2), 3, "unlocked", "locked", 3));
	/* What is locked already is not charged again. */
	EXPECT_EQ(0, do_mlock2(p, P(8), MLOCK_ONFAULT));
	EVENTS(3, vma_text(p, 2, "unlocked", "onfault", 2),
	       vma_text(p + P(2), 3, "locked", "onfault", 0),
	       vma_text(p + P(5), 3, "unlocked", "onfault", 3));
	EXPECT_EQ(0, do_mlock2(p, P(8), MLOCK_ONFAULT));
	NO_EVENTS();
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EVENTS(1, vma_text(p, 1, "onfault", "locked", 0));
	EXPECT_EQ(0, do_munlock(p, P(8)));
	EVENTS(2, vma_text(p, 1, "locked", "unlocked", -1),
	       vma_text(p + P(1), 7, "onfault", "unlocked", -7));
	/* What comes before a hole stays locked. */
	ASSERT_EQ(0, munmap(p + P(4), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(8), MLOCK_ONFAULT));
	EXPECT_EQ(2, take_events());
	EXPECT_STREQ("mlock_vma", events[0].name);
	EXPECT_STREQ("mlock_refused", events[1].name);
}

TEST_F(mlock_trace, all)
{
	char *p = region(4);
	unsigned long vmas;
	long before;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, write_str(INSTANCE "/events/mlock/mlockall/enable", "1"));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	before = charged();
	EXPECT_EQ(4, before);
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	/* All lockable vmas, since none was locked on fault before. */
	vmas = look_all().lf;
	EXPECT_LT(1, vmas);
	EVENTS(1, text("mlockall: tgid=%d flags=MCL_CURRENT|MCL_ONFAULT vmas=%lu pages=%ld",
		       getpid(), vmas, charged() - before));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	EVENTS(1, text("mlockall: tgid=%d flags=MCL_CURRENT|MCL_ONFAULT vmas=1 pages=0",
		       getpid()));
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EVENTS(1, text("mlockall: tgid=%d flags=MCL_FUTURE vmas=0 pages=0", getpid()));
	before = charged();
	EXPECT_EQ(0, do_munlockall());
	EVENTS(1, text("mlockall: tgid=%d flags=0 vmas=%lu pages=%ld", getpid(), vmas,
		       -before));
}

static char *folios_text(const char *event, uint64_t pfn, unsigned long pages,
			 const char *effect, int mlocked, int count)
{
	return text("%s: pfn=0x%llx pages=%lu effect=%s mlocked=%d mlock_count=%d", event,
		    (unsigned long long)pfn, pages, effect, mlocked, count);
}

static char *folio_text(const char *event, uint64_t pfn, const char *effect, int mlocked,
			int count)
{
	return folios_text(event, pfn, 1, effect, mlocked, count);
}

static int enable_folio_events(void)
{
	return write_str(INSTANCE "/events/mlock/mlock_folio/enable", "1") ?:
	       write_str(INSTANCE "/events/mlock/munlock_folio/enable", "1");
}

static uint64_t pfn_of(int map, char *p)
{
	uint64_t entry;

	return read_pagemap(map, p, 1, &entry) == 1 ? PAGEMAP_PFN(entry) : 0;
}

TEST_F(mlock_trace, folios)
{
	int fd = memfd_create("mlock-trace", MFD_CLOEXEC), map = open_pagemap();
	char *p = hole(2), *q = hole(2);
	uint64_t entry[2], a, b;

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, ftruncate(fd, P(2)));
	ASSERT_EQ(p, mmap(p, P(2), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(q, mmap(q, P(2), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	/* The pages that are touched are pending in a batch of this CPU. */
	ASSERT_EQ(0, run_on_cpu(0));
	touch(p, 2);
	touch(q, 2);
	ASSERT_EQ(2, read_pagemap(map, p, 2, entry));
	a = PAGEMAP_PFN(entry[0]);
	b = PAGEMAP_PFN(entry[1]);
	ASSERT_EQ(0, enable_folio_events());

	EXPECT_EQ(0, do_mlock(p, P(2)));
	EVENTS(2, folio_text("mlock_folio", a, "culled", 1, 1),
	       folio_text("mlock_folio", b, "culled", 1, 1));
	EXPECT_EQ(0, do_mlock(q, P(1)));
	EVENTS(1, folio_text("mlock_folio", a, "stays", 1, 2));
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EVENTS(2, folio_text("munlock_folio", a, "stays", 1, 1),
	       folio_text("munlock_folio", b, "rescued", 0, 0));
	EXPECT_EQ(0, do_munlock(q, P(1)));
	EVENTS(1, folio_text("munlock_folio", a, "rescued", 0, 0));
}

/* A folio that is pending in a batch has its event when the batch is drained. */
TEST_F(mlock_trace, folios_that_are_pending)
{
	int fd = memfd_create("mlock-trace", MFD_CLOEXEC), map = open_pagemap();
	char *p = hole(1), *q = hole(1), *r = region(1);

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_NE(NULL, r);
	ASSERT_EQ(0, ftruncate(fd, P(1)));
	ASSERT_EQ(p, mmap(p, P(1), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(q, mmap(q, P(1), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, run_on_cpu(0));
	touch(p, 1);
	EXPECT_EQ(0, do_mlock2(q, P(1), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock2(r, P(1), MLOCK_ONFAULT));
	ASSERT_EQ(0, enable_folio_events());

	touch(q, 1);
	NO_EVENTS();
	ASSERT_TRUE(drain());
	EVENTS(1, folio_text("mlock_folio", pfn_of(map, p), "culled", 1, 1));
	EXPECT_EQ(0, munmap(q, P(1)));
	NO_EVENTS();
	ASSERT_TRUE(drain());
	EVENTS(1, folio_text("munlock_folio", pfn_of(map, p), "rescued", 0, 0));
	/* One that is new */
	touch(r, 1);
	NO_EVENTS();
	ASSERT_TRUE(drain());
	EVENTS(1, folio_text("mlock_folio", pfn_of(map, r), "culled", 1, 1));
}

/* A large folio has its event at once. */
TEST_F(mlock_trace, huge_folio)
{
	unsigned long n = thp_size();
	int map = open_pagemap();
	uint64_t pfn;
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, madvise(p, P(n), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
	ASSERT_EQ(0, enable_folio_events());

	touch(p, 1);
	pfn = pfn_of(map, p);
	if (look(p, n).thp != n)
		SKIP(return, "no huge page");
	EVENTS(1, folios_text("mlock_folio", pfn, n, "culled", 1, 1));
	EXPECT_EQ(0, do_munlock(p, P(n)));
	EVENTS(1, folios_text("munlock_folio", pfn, n, "rescued", 0, 0));
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EVENTS(1, folios_text("mlock_folio", pfn, n, "culled", 1, 1));
	EXPECT_EQ(0, munmap(p, P(n)));
	EVENTS(1, folios_text("munlock_folio", pfn, n, "rescued", 0, 0));
}

TEST_F(mlock_trace, large_folio_that_is_mapped_again)
{
	int fd = memfd_create("mlock-trace", MFD_CLOEXEC), map = open_pagemap();
	unsigned long n = LARGE / psize(), all = 3 * n;
	char was[32], *p, *q;
	uint64_t pfn;

	ASSERT_LE(0, fd);
	if (n < 4 || !read_setting(LARGE_SHMEM, was, sizeof(was)))
		SKIP(return, "no large folios of shared memory");
	p = hole(all);
	q = hole(all);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	p = (char *)(((unsigned long)p + LARGE) & -LARGE);
	q = (char *)(((unsigned long)q + LARGE) & -LARGE);
	ASSERT_EQ(0, ftruncate(fd, LARGE));
	ASSERT_EQ(p, mmap(p, LARGE, RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(q, mmap(q, LARGE, RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, write_str(LARGE_SHMEM, "always"));
	touch(p, n);
	ASSERT_EQ(0, write_str(LARGE_SHMEM, was));
	EXPECT_EQ(0, do_mlock2(q, LARGE, MLOCK_ONFAULT));
	ASSERT_EQ(0, enable_folio_events());

	touch(q, 1);
	pfn = pfn_of(map, q);
	if (present(q, n) != n)
		SKIP(return, "the folio was mapped in part");
	EVENTS(1, folios_text("mlock_folio", pfn, n, "culled", 1, 1));
	EXPECT_EQ(0, munmap(q, LARGE));
	EVENTS(1, folios_text("munlock_folio", pfn, n, "rescued", 0, 0));
}

TEST_HARNESS_MAIN
