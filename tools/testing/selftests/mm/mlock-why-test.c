// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of tools/mm/mlock-why: its reports on refused requests and on locked
 * memory, how it passes on the status of the command, and its messages if it
 * cannot work.
 *
 * Run as root. The environment variable MLOCK_WHY may give the path of the
 * program. Tests of refusals need a kernel with the trace events; the rest does
 * not.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define TRACEFS "/sys/kernel/tracing"
#define FEW_MAPPINGS 64
#define CGROUPS "/sys/fs/cgroup"
#define NOBODY 65534
/* What a stack needs below it */
#define STACK_ROOM 1024
#define RAISE ": raise it (ulimit -l, LimitMEMLOCK=), or give CAP_IPC_LOCK"

/* What a C library may not have yet. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/*
 * What this program does as the command of mlock-why: "mlock-why-test do WHAT".
 * It ends with 0 if it was refused with the error that was expected.
 */

static int refused(long ret, int error)
{
	return ret == -error ? 0 : 1;
}

static int limited(unsigned long bytes)
{
	struct rlimit lim = { bytes, bytes };

	return setrlimit(RLIMIT_MEMLOCK, &lim) || setgroups(0, NULL) ||
	       setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY);
}

/*
 * Names that look like a part of an event, or do something to a terminal; and what
 * is to be read of them. The line of an event ends where a name does.
 */
static const struct {
	const char *name, *text, *json;
} names[] = {
	{ "a: mlockall: b", "a: mlockall: b", "a: mlockall: b" },
	{ "-1 [0] 1: a: ", "-1 [0] 1: a: ", "-1 [0] 1: a: " },
	{ "-1[0]1:mlockall", "-1[0]1:mlockall", "-1[0]1:mlockall" },
	{ "x owner=1 tgid=", "x owner=1 tgid=", "x owner=1 tgid=" },
	{ "a comm=b", "a comm=b", "a comm=b" },
	{ "a\nb", "a", "a" },
	{ "\nCPU:\033c EVENTS]", "", "" },
	{ "\033[31m\"\\", "\\033[31m\"\\134", "\\u001b[31m\\\"\\\\" },
	/* UTF-8, but for the last two: a control character, and half of a letter */
	{ "\xc3\xbc\xe2\x82\xac\xc2\x9b\xc3", "\xc3\xbc\xe2\x82\xac\\302\\233\\303",
	  "\xc3\xbc\xe2\x82\xac\\u00c2\\u009b\\u00c3" },
};

/* A process that is debugged, with a locked stack of one page */
static pid_t stack_child(char *stack)
{
	pid_t pid = fork();

	if (!pid) {
		if (prctl(PR_SET_DUMPABLE, 1) || ptrace(PTRACE_TRACEME, 0, NULL, NULL) ||
		    map_anon(stack, 1, RW, MAP_GROWSDOWN | MAP_LOCKED))
			_exit(1);
		raise(SIGSTOP);
		_exit(1);
	}
	return pid;
}

static int do_what(const char *what)
{
	unsigned long limit = P(16);
	char *p = region(32);
	pid_t parent = getpid();

	if (!p)
		return 2;
	if (!strcmp(what, "nothing"))
		return 0;
	if (!strcmp(what, "exit"))
		return 42;
	if (!strcmp(what, "die"))
		return raise(SIGTERM);
	if (!strcmp(what, "zero"))
		return limited(0) ?: refused(do_mlock(p, P(1)), EPERM);
	if (!strcmp(what, "over"))
		return limited(limit) ?: refused(do_mlock2(p, P(17), MLOCK_ONFAULT), ENOMEM);
	if (!strcmp(what, "negative"))
		return limited(limit) ?: refused(do_mlock(p, -P(1)), ENOMEM);
	if (!strcmp(what, "locked"))
		return limited(limit) ?: do_mlock(p, P(10)) ?:
		       refused(do_mlock(p + P(10), P(7)), ENOMEM);
	if (!strcmp(what, "all"))
		return limited(P(1)) ?: refused(do_mlockall(MCL_CURRENT), ENOMEM);
	if (!strcmp(what, "future")) {
		p = mmap(NULL, P(17), RW, ANON, -1, 0);
		return p == MAP_FAILED || limited(limit) || do_mlockall(MCL_FUTURE) ||
		       refused(map_anon(p, 17, RW, 0), EAGAIN);
	}
	if (!strcmp(what, "map_locked"))
		return limited(limit) ?: refused(map_anon(p, 17, RW, MAP_LOCKED), EAGAIN);
	if (!strcmp(what, "namespace"))
		return set_limit(P(1)) || unshare(CLONE_NEWUSER) ||
		       refused(do_mlock(p, P(2)), ENOMEM);
	if (!strcmp(what, "shm")) {
		int id, ret;

		if (limited(P(1)))
			return 2;
		id = shmget(IPC_PRIVATE, P(2), IPC_CREAT | 0600);
		ret = refused(neg_errno(shmctl(id, SHM_LOCK, NULL)), ENOMEM);
		shmctl(id, IPC_RMID, NULL);
		return ret;
	}
	if (!strcmp(what, "shm-of-a-namespace") || !strcmp(what, "shm-without-limit")) {
		struct rlimit rl = { P(1), RLIM_INFINITY };
		int id, ret;

		if (setrlimit(RLIMIT_MEMLOCK, &rl) || unshare(CLONE_NEWUSER))
			return 2;
		rl.rlim_cur = !strcmp(what, "shm-without-limit") ? RLIM_INFINITY : P(8);
		id = shmget(IPC_PRIVATE, P(2), IPC_CREAT | 0600);
		ret = setrlimit(RLIMIT_MEMLOCK, &rl) ?:
		      refused(neg_errno(shmctl(id, SHM_LOCK, NULL)), ENOMEM);
		shmctl(id, IPC_RMID, NULL);
		return ret;
	}
	if (!strcmp(what, "brk")) {
		char *brk = sbrk(0);

		return limited(limit) || do_mlockall(MCL_FUTURE) ||
		       (char *)syscall(__NR_brk, brk + P(17)) != brk;
	}
	if (!strcmp(what, "stack")) {
		char *room = hole(STACK_ROOM + 1), *stack = room + P(STACK_ROOM);
		pid_t pid;

		if (!room || limited(P(1)))
			return 2;
		pid = stack_child(stack);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return 2;
		if (ptrace(PTRACE_POKEDATA, pid, stack - sizeof(long), NULL) != -1)
			return 1;
		printf("child %d\n", pid);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return 0;
	}
	if (!strcmp(what, "not_owner")) {
		int id = shmget(IPC_PRIVATE, P(2), IPC_CREAT | 0666), ret;

		if (setresuid(NOBODY, NOBODY, 0))
			return 2;
		ret = refused(neg_errno(shmctl(id, SHM_LOCK, NULL)), EPERM);
		return setresuid(0, 0, 0) || shmctl(id, IPC_RMID, NULL) || ret;
	}
	if (!strcmp(what, "groups")) {
		gid_t groups[4];

		return getuid() != 4711 || getgid() != 4712 || getgroups(4, groups) != 3 ||
		       groups[0] != 4712 || groups[1] != 4713 || groups[2] != 4715;
	}
	if (!strcmp(what, "hole"))
		return munmap(p + P(4), P(1)) ?: refused(do_mlock(p, P(8)), ENOMEM);
	if (!strcmp(what, "unmapped"))
		return munmap(p, P(32)) ?: refused(do_mlock(p, P(1)), ENOMEM);
	if (!strcmp(what, "flags"))
		return refused(do_mlock2(p, P(1), 6), EINVAL);
	if (!strcmp(what, "access"))
		return mprotect(p + P(1), P(1), PROT_NONE) ?:
		       refused(do_mlock(p, P(4)), ENOMEM);
	if (!strcmp(what, "guard"))
		return madvise(p + P(3), P(1), MADV_GUARD_INSTALL) ?:
		       refused(do_mlock(p, P(4)), ENOMEM);
	if (!strcmp(what, "eof")) {
		int fd = memfd_create("mlock-why", 0);

		return fd < 0 || ftruncate(fd, P(2)) ||
		       mmap(p, P(4), RW, MAP_SHARED | MAP_FIXED, fd, 0) != p ||
		       refused(do_mlock(p, P(4)), ENOMEM);
	}
	if (!strcmp(what, "huge")) {
		/* No huge page is there for it. */
		p = mmap(NULL, P(1), RW, ANON | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
		return p == MAP_FAILED || refused(do_mlock(p, P(1)), ENOMEM);
	}
	if (!strcmp(what, "stack_overflow")) {
		char *room = hole(STACK_ROOM + 1), *stack = room + P(STACK_ROOM);

		if (!room || limited(P(1)) || map_anon(stack, 1, RW, MAP_GROWSDOWN | MAP_LOCKED))
			return 2;
		stack[-1] = 1;
		return 1;
	}
	if (!strcmp(what, "mappings")) {
		char *many = region(2 * FEW_MAPPINGS);

		/* Every second page is a mapping of its own until there are too many. */
		for (int i = 1; i < 2 * FEW_MAPPINGS; i += 2) {
			if (mprotect(many + P(i), P(1), PROT_READ))
				break;
		}
		return refused(do_mlock(p + P(2), P(2)), ENOMEM);
	}
	if (!strcmp(what, "names")) {
		for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
			prctl(PR_SET_NAME, names[i].name);
			if (refused(do_munlock((void *)P(1), P(1)), ENOMEM))
				return 1;
		}
		return 0;
	}
	if (!strcmp(what, "daemon")) {
		/* The command ends, and what it started is refused after that. */
		if (fork())
			return 42;
		while (getppid() == parent)
			usleep(1000);
		usleep(500000);
		return refused(do_munlock((void *)P(1), P(1)), ENOMEM);
	}
	if (!strcmp(what, "named_children")) {
		prctl(PR_SET_NAME, "pid=1\n pid=2: a");
		what = "children";
	}
	if (!strcmp(what, "children")) {
		for (int i = 0; i < 3; i++) {
			pid_t pid = fork();

			if (!pid)
				_exit(refused(do_munlock((void *)P(1), P(1)), ENOMEM));
			if (reap(pid))
				return 1;
		}
		return 0;
	}
	return 3;
}

/* The program that is tested, and this one. */
static char tool[PATH_MAX], own_path[PATH_MAX];

static bool find_tool(void)
{
	static const char *const beside[] = { "%s/mlock-why", "%s/../../../mm/mlock-why" };
	const char *env = getenv("MLOCK_WHY");
	ssize_t len = readlink("/proc/self/exe", own_path, sizeof(own_path) - 1);
	char dir[PATH_MAX];

	if (len < 0)
		return false;
	own_path[len] = '\0';
	if (env) {
		snprintf(tool, sizeof(tool), "%s", env);
		return !access(tool, X_OK);
	}
	strcpy(dir, own_path);
	dirname(dir);
	for (unsigned int i = 0; i < ARRAY_SIZE(beside); i++) {
		if (snprintf(tool, sizeof(tool), beside[i], dir) < (int)sizeof(tool) &&
		    !access(tool, X_OK))
			return true;
	}
	strcpy(tool, "/mlock-why");
	return !access(tool, X_OK);
}

static char buffer[64 << 10];
static char *const output = buffer;

/* What mlock-why finds when it is started. */
static int (*before_exec)(void);

/* Starts mlock-why; what it writes to stdout and stderr can be read from @fd. */
static pid_t start(int *fd, char **argv)
{
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		if (!before_exec || !before_exec())
			execv(tool, argv);
		_exit(99);
	}
	close(fds[1]);
	*fd = fds[0];
	return pid;
}

static void read_all(int fd)
{
	size_t len = 0;
	ssize_t got;

	while (len < sizeof(buffer) - 1 &&
	       (got = read(fd, output + len, sizeof(buffer) - 1 - len)) > 0)
		len += got;
	output[len] = '\0';
	close(fd);
}

/* Runs mlock-why to its end. Returns its wait status. */
static int run(const char *arg, ...)
{
	char *argv[16] = { tool };
	int n = 1, fd;
	va_list ap;
	pid_t pid;

	va_start(ap, arg);
	for (; arg && n < 15; arg = va_arg(ap, const char *))
		argv[n++] = (char *)arg;
	va_end(ap);
	argv[n] = NULL;
	pid = start(&fd, argv);
	if (pid < 0)
		return -1;
	read_all(fd);
	return reap(pid);
}

static unsigned int lines(void)
{
	unsigned int n = 0;

	for (char *p = output; (p = strchr(p, '\n')); p++)
		n++;
	return n;
}

/* Bytes as mlock-why has them, for a multiple of 1 KiB below 1 GiB */
static const char *size(unsigned long bytes)
{
	static char bufs[4][32];
	static unsigned int next;
	char *buf = bufs[next++ % 4];

	if (bytes && bytes % (1UL << 20) == 0)
		snprintf(buf, sizeof(bufs[0]), "%lu MiB", bytes >> 20);
	else
		snprintf(buf, sizeof(bufs[0]), "%lu KiB", bytes >> 10);
	return buf;
}

FIXTURE(mlock_why)
{
};

FIXTURE_SETUP(mlock_why)
{
	struct stat st;

	if (geteuid())
		SKIP(return, "needs root");
	if (!find_tool())
		SKIP(return, "no mlock-why: set MLOCK_WHY");
	if (stat(TRACEFS "/events", &st))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	if (stat(TRACEFS "/events/mlock", &st))
		SKIP(return, "no trace events of mlock");
}

FIXTURE_TEARDOWN(mlock_why)
{
}

/* Runs "do WHAT" under mlock-why, and expects that it says this and no more. */
static void check_said(struct __test_metadata *_metadata, int line, const char *what,
		       const char *fmt, ...)
{
	char want[1024] = "";
	int status = run("--", own_path, "do", what, NULL);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(want, sizeof(want), fmt, ap);
	va_end(ap);
	if (status || lines() != 1 || !strstr(output, want))
		TH_LOG("line %d: status %#x, want '%s', got '%s'", line, status, want, output);
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, lines());
	EXPECT_NE(NULL, strstr(output, want));
	EXPECT_EQ(output, strstr(output, "mlock-why-test (pid "));
}

#define SAYS(what, ...) check_said(_metadata, __LINE__, what, __VA_ARGS__)

TEST_F(mlock_why, limits)
{
	SAYS("zero", "): mlock(%s) = EPERM: RLIMIT_MEMLOCK is 0" RAISE "\n", size(P(1)));
	SAYS("over", "): mlock2(%s, MLOCK_ONFAULT) = ENOMEM: RLIMIT_MEMLOCK is %s and 0 KiB are locked; needs %s"
	     RAISE "\n", size(P(17)), size(P(16)), size(P(17)));
	SAYS("locked", "): mlock(%s) = ENOMEM: RLIMIT_MEMLOCK is %s and %s are locked; needs %s"
	     RAISE "\n", size(P(7)), size(P(16)), size(P(10)), size(P(17)));
	SAYS("all", "): mlockall() = ENOMEM: RLIMIT_MEMLOCK is %s and ", size(P(1)));
	EXPECT_NE(NULL, strstr(output, " are mapped, all of which count" RAISE "\n"));
	SAYS("map_locked", "): mmap(%s, MAP_LOCKED) = EAGAIN: RLIMIT_MEMLOCK is %s and 0 KiB are locked; needs %s"
	     RAISE "\n", size(P(17)), size(P(16)), size(P(17)));
	SAYS("brk", "): brk(%s more) = ENOMEM: RLIMIT_MEMLOCK is %s and 0 KiB are locked; needs %s, because all that it maps is locked since it called mlockall(MCL_FUTURE), ",
	     size(P(17)), size(P(16)), size(P(17)));
	SAYS("shm", "): shmctl(SHM_LOCK) of %s = ENOMEM: RLIMIT_MEMLOCK is %s and the user has 0 KiB of shared memory locked; needs %s"
	     RAISE "\n", size(P(2)), size(P(1)), size(P(2)));
}

TEST_F(mlock_why, what_mlockall_did)
{
	double secs = -1;
	char *p;

	SAYS("future", "): mmap(%s) = EAGAIN: RLIMIT_MEMLOCK is %s and 0 KiB are locked; needs %s, because all that it maps (also by shmat() and io_setup()) is locked since it called mlockall(MCL_FUTURE), ",
	     size(P(17)), size(P(16)), size(P(17)));
	p = strstr(output, "(MCL_FUTURE), ");
	ASSERT_NE(NULL, p);
	EXPECT_EQ(1, sscanf(p, "(MCL_FUTURE), %lf s before: raise it", &secs));
	EXPECT_LE(0, secs);
	EXPECT_GT(10, secs);
}

TEST_F(mlock_why, capability_in_a_namespace)
{
	SAYS("shm-of-a-namespace", "): shmctl(SHM_LOCK) of %s = ENOMEM: the user has 0 KiB of shared memory locked and needs %s; RLIMIT_MEMLOCK (%s) allows that, but the limit that the user namespace was created with does not: ",
	     size(P(2)), size(P(2)), size(P(8)));
	SAYS("shm-without-limit", "; RLIMIT_MEMLOCK (unlimited) allows that, but the limit ");
	EXPECT_EQ(0, run("--json", "--", own_path, "do", "shm-without-limit", NULL));
	EXPECT_NE(NULL, strstr(output, ",\"limit\":null,\"at\":0,"));
	SAYS("namespace", RAISE " in the initial user namespace; that of its own namespace does not count\n");
}

TEST_F(mlock_why, not_the_owner)
{
	SAYS("not_owner", "): shmctl(SHM_LOCK) of %s = EPERM: only the owner and the creator of the segment may lock it (ipcs -m -c), and CAP_IPC_LOCK in the user namespace of the IPC namespace: ",
	     size(P(2)));
}

/* Memory of another process, which the kernel may know by the controller of memory */
TEST_F(mlock_why, memory_of_another)
{
	char want[256], *said;
	int asked, owner, child = -1;

	if (!file_says("/proc/cgroups", "memory") && access(CGROUPS "/memory.stat", F_OK))
		SKIP(return, "no memory cgroups");
	EXPECT_EQ(0, run("--", own_path, "do", "stack", NULL))
		TH_LOG("%s", output);
	said = strstr(output, "mlock-why-test (pid ");
	ASSERT_NE(NULL, said);
	/* It has ended when that is written. */
	EXPECT_EQ(2, sscanf(said, "mlock-why-test (pid %d), in the memory of %*s (pid %d): ",
			    &asked, &owner))
		TH_LOG("%s", output);
	snprintf(want, sizeof(want), " (pid %d): growing a locked stack by %s = ENOMEM: RLIMIT_MEMLOCK of pid %d is %s and %s are locked; needs %s"
		 RAISE "\n", owner, size(P(1)), asked, size(P(1)), size(P(1)), size(P(2)));
	EXPECT_NE(NULL, strstr(output, want));
	said = strstr(output, "child ");
	EXPECT_NE(NULL, said);
	if (said) {
		EXPECT_EQ(1, sscanf(said, "child %d", &child));
	}
	EXPECT_EQ(child, owner);
}

TEST_F(mlock_why, what_is_not_mapped)
{
	SAYS("hole", ", %s into the range; what comes before that is locked now: the whole range has to be mapped\n",
	     size(P(4)));
	SAYS("unmapped", "): mlock(%s) = ENOMEM: nothing is mapped at 0x", size(P(1)));
	/*
	 * The limit is asked before the range is; no limit would be enough. A kernel of
	 * 64 bits does not know that one of 32 bits is negative.
	 */
	if (sizeof(long) == 8) {
		SAYS("negative", " = ENOMEM: the range from 0x");
		EXPECT_NE(NULL, strstr(output, " reaches past the end of all addresses: "));
		EXPECT_EQ(NULL, strstr(output, "raise it"));
	}
	SAYS("flags", "): mlock2(%s) = EINVAL: the only flag is MLOCK_ONFAULT: give that, or 0\n",
	     size(P(1)));
}

TEST_F(mlock_why, too_many_mappings)
{
	long max = find_number(MAX_MAP_COUNT, "");

	ASSERT_LT(0, max);
	ASSERT_EQ(0, write_ulong(MAX_MAP_COUNT, FEW_MAPPINGS));
	SAYS("mappings", " mappings and vm.max_map_count is %d, and a mapping had to be split at 0x",
	     FEW_MAPPINGS);
	EXPECT_EQ(0, write_ulong(MAX_MAP_COUNT, max));
}

TEST_F(mlock_why, what_cannot_be_faulted_in)
{
	SAYS("access", ", %s into it, could not be faulted in: it may not be accessed (PROT_NONE, ",
	     size(P(1)));
	SAYS("guard", ", %s into it, could not be faulted in: it is in a guard region ",
	     size(P(3)));
	SAYS("eof", ", %s into it, could not be faulted in: it is past the end of the file",
	     size(P(2)));
}

TEST_F(mlock_why, no_huge_page)
{
	long huge = find_number("/proc/sys/vm/nr_hugepages", "");

	if (huge < 0)
		SKIP(return, "no hugetlb");
	if (huge)
		SKIP(return, "there are huge pages");
	SAYS("huge", " but its first page could not be faulted in: what is mapped there could not supply it: look for an I/O error (dmesg), a full file system, no free huge page (vm.nr_hugepages, ");
}

TEST_F(mlock_why, stack_that_cannot_grow)
{
	char want[256];

	EXPECT_EQ(128 + SIGSEGV, WEXITSTATUS(run("--", own_path, "do", "stack_overflow", NULL)));
	snprintf(want, sizeof(want), "): growing a locked stack by %s = ENOMEM: RLIMIT_MEMLOCK is %s and %s are locked; needs %s, and the program gets SIGSEGV"
		 RAISE "\n", size(P(1)), size(P(1)), size(P(1)), size(P(2)));
	EXPECT_NE(NULL, strstr(output, want))
		TH_LOG("%s", output);
}

TEST_F(mlock_why, nothing_refused)
{
	EXPECT_EQ(0, run("--", own_path, "do", "nothing", NULL));
	EXPECT_STREQ("mlock-why: nothing was refused\n", output);
	EXPECT_EQ(0, run("--json", "--", own_path, "do", "nothing", NULL));
	EXPECT_STREQ("", output);
}

TEST_F(mlock_why, children_of_the_command)
{
	EXPECT_EQ(0, run("--", own_path, "do", "children", NULL));
	EXPECT_EQ(3, lines());
	EXPECT_NE(NULL, strstr(output, "): munlock("));
	EXPECT_EQ(0, run("--", own_path, "do", "named_children", NULL));
	EXPECT_EQ(3, lines());
}

TEST_F(mlock_why, what_the_command_leaves)
{
	EXPECT_EQ(42, WEXITSTATUS(run("--", own_path, "do", "daemon", NULL)));
	EXPECT_EQ(2, lines());
	EXPECT_NE(NULL, strstr(output, "the command has ended, and what it started runs on"));
	EXPECT_NE(NULL, strstr(output, "): munlock("));
}

TEST_F(mlock_why, names)
{
	char want[256], *line = output;
	unsigned int i;

	EXPECT_EQ(0, run("--", own_path, "do", "names", NULL));
	EXPECT_EQ(ARRAY_SIZE(names), lines());
	EXPECT_EQ(NULL, strchr(output, '\033'));
	for (i = 0; i < ARRAY_SIZE(names) && line; i++) {
		snprintf(want, sizeof(want), "%s (pid ", names[i].text);
		EXPECT_EQ(line, strstr(line, want))
			TH_LOG("want '%s', got '%s'", want, line);
		line = strchr(line, '\n');
		line += !!line;
	}

	line = output;
	EXPECT_EQ(0, run("--json", "--", own_path, "do", "names", NULL));
	EXPECT_EQ(ARRAY_SIZE(names), lines());
	for (i = 0; i < ARRAY_SIZE(names) && line; i++) {
		snprintf(want, sizeof(want), "\"comm\":\"%s\",\"pid\":", names[i].json);
		line = strstr(line, want);
		EXPECT_NE(NULL, line)
			TH_LOG("want '%s', got '%s'", want, output);
	}
}

static int left_behind(void)
{
	DIR *dir = opendir(TRACEFS "/instances");
	struct dirent *d;
	int n = 0;

	while (dir && (d = readdir(dir)))
		n += !strncmp(d->d_name, "mlock-why-", 10);
	if (dir)
		closedir(dir);
	return dir ? n : -1;
}

static int ignore_children(void)
{
	return signal(SIGCHLD, SIG_IGN) == SIG_ERR;
}

static int few_files(unsigned int nr)
{
	struct rlimit lim = { nr, nr };

	return syscall(__NR_close_range, 3, ~0U, 0) || setrlimit(RLIMIT_NOFILE, &lim);
}

static int four_files(void)
{
	return few_files(4);
}

static int five_files(void)
{
	return few_files(5);
}

/* It can open what it needs for an instance, and trace_pipe, but no more. */
TEST_F(mlock_why, nothing_stays_behind)
{
	before_exec = four_files;
	EXPECT_EQ(125, WEXITSTATUS(run("-a", NULL)));
	EXPECT_NE(NULL, strstr(output, "/enable: Too many open files\n"));
	EXPECT_EQ(1, lines());
	EXPECT_EQ(0, left_behind());
	/* One more for the pipe to the command, which does not run. */
	before_exec = five_files;
	EXPECT_EQ(125, WEXITSTATUS(run("--", own_path, "do", "exit", NULL)));
	EXPECT_NE(NULL, strstr(output, "/enable: Too many open files\n"));
	EXPECT_EQ(1, lines());
	EXPECT_EQ(0, left_behind());
}

/* As if one of the same number had been killed */
static int leave_behind(void)
{
	char path[128];

	snprintf(path, sizeof(path), TRACEFS "/instances/mlock-why-%d-0", getpid());
	return mkdir(path, 0700);
}

TEST_F(mlock_why, another_has_stayed_behind)
{
	char path[128];
	int status, fd;
	pid_t pid;

	before_exec = leave_behind;
	pid = start(&fd, (char *[]){ tool, "--", own_path, "do", "nothing", NULL });
	before_exec = NULL;
	ASSERT_LT(0, pid);
	read_all(fd);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_STREQ("mlock-why: nothing was refused\n", output);
	EXPECT_EQ(1, left_behind());
	snprintf(path, sizeof(path), TRACEFS "/instances/mlock-why-%d-0", pid);
	EXPECT_EQ(0, rmdir(path));
}

/* Somebody else may be refused faster than that can be read. */
TEST_F_TIMEOUT(mlock_why, refused_without_end, 120)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			do_munlock((void *)P(1), P(1));
	}
	EXPECT_EQ(42, WEXITSTATUS(run("--", own_path, "do", "exit", NULL)));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
	/* It watched another, but of events that were lost one cannot tell. */
	EXPECT_EQ(NULL, strstr(output, "): munlock("));
	EXPECT_EQ(!strstr(output, " are lost\n"), !!strstr(output, "nothing was refused\n"))
		TH_LOG("%s", output);
	EXPECT_EQ(0, left_behind());
}

/* What a program reads has to tell as well that events were lost. */
TEST_F_TIMEOUT(mlock_why, lost_events, 120)
{
	char pid_text[32], path[128];
	pid_t pid = fork(), why;
	int fd, i;

	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	why = start(&fd, (char *[]){ tool, "--json", "-p", pid_text, NULL });
	ASSERT_LT(0, why);
	/* The last thing that it turns on */
	snprintf(path, sizeof(path), "%s/instances/mlock-why-%d-0/events/mlock/mlockall/enable",
		 TRACEFS, why);
	while (!file_says(path, "1"))
		usleep(1000);
	EXPECT_EQ(0, kill(why, SIGSTOP));
	ASSERT_EQ(why, waitpid(why, NULL, WUNTRACED));
	/* More than a buffer has, in which an event is 100 bytes or more. */
	for (i = 0; i < 40000; i++)
		do_munlock((void *)P(1), P(1));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(0, kill(why, SIGCONT));
	read_all(fd);
	REAP(why);
	EXPECT_EQ(output, strstr(output, "{\"event\":\"lost\",\"cpu\":"))
		TH_LOG("%s", output);
	EXPECT_NE(NULL, strstr(output, ",\"events\":"));
}

/* Reads up to the end of the line in which it says that it watches. */
static bool is_watching(int fd)
{
	char line[128] = "";
	int n = 0;

	while (n < (int)sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	return strstr(line, "mlock-why: watching") == line;
}

static pid_t fork_as(pid_t number)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (unsigned long)&number,
		.set_tid_size = 1,
	};

	return syscall(__NR_clone3, &args, sizeof(args));
}

/* What has the number of a process that was watched and has ended is not watched. */
TEST_F(mlock_why, number_of_another)
{
	pid_t *ended = mmap(NULL, P(1), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char pid_text[32], want[64];
	pid_t pid, why, other;
	int fd;

	ASSERT_NE(MAP_FAILED, ended);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		raise(SIGSTOP);
		other = fork();
		if (!other)
			_exit(0);
		if (other < 0 || reap(other))
			_exit(1);
		*ended = other;
		raise(SIGSTOP);
		_exit(refused(do_munlock((void *)P(1), P(1)), ENOMEM));
	}
	ASSERT_EQ(pid, waitpid(pid, NULL, WUNTRACED));
	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	why = start(&fd, (char *[]){ tool, "-p", pid_text, NULL });
	ASSERT_LT(0, why);
	EXPECT_EQ(true, is_watching(fd));
	EXPECT_EQ(0, kill(pid, SIGCONT));
	ASSERT_EQ(pid, waitpid(pid, NULL, WUNTRACED));

	other = fork_as(*ended);
	if (!other)
		_exit(refused(do_munlock((void *)P(1), P(1)), ENOMEM));
	EXPECT_EQ(*ended, other);
	REAP(other);
	EXPECT_EQ(0, kill(pid, SIGCONT));
	REAP(pid);
	read_all(fd);
	REAP(why);
	EXPECT_EQ(1, lines());
	snprintf(want, sizeof(want), " (pid %d): munlock(", pid);
	EXPECT_NE(NULL, strstr(output, want))
		TH_LOG("%s", output);
}

/* ^\ of the terminal, and an output that is as large as it may be */
TEST_F(mlock_why, signals)
{
	static const int signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGXFSZ };

	for (unsigned int i = 0; i < ARRAY_SIZE(signals); i++) {
		int fd, status;
		pid_t pid = start(&fd, (char *[]){ tool, "-a", NULL });

		ASSERT_LT(0, pid);
		EXPECT_EQ(true, is_watching(fd));
		EXPECT_EQ(0, kill(pid, signals[i]));
		read_all(fd);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_EQ(0, left_behind());
	}
}

/* It ends when it cannot write, and not when somebody ends it. */
TEST_F(mlock_why, output_is_full)
{
	int fd, status;
	pid_t pid = start(&fd, (char *[]){ tool, "-a", "-o", "/dev/full", NULL });

	ASSERT_LT(0, pid);
	EXPECT_EQ(true, is_watching(fd));
	EXPECT_EQ(-EINVAL, do_mlockall(0));
	read_all(fd);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(125, WEXITSTATUS(status));
	EXPECT_STREQ("mlock-why: cannot write /dev/full\n", output);
	EXPECT_EQ(0, left_behind());
}

TEST_F(mlock_why, exit_status)
{
	before_exec = ignore_children;
	EXPECT_EQ(42, WEXITSTATUS(run("--", own_path, "do", "exit", NULL)));
	before_exec = NULL;
	EXPECT_EQ(125, WEXITSTATUS(run("-o", "/dev/full", "--", own_path, "do", "flags", NULL)));
	EXPECT_STREQ("mlock-why: cannot write /dev/full\n", output);
	EXPECT_EQ(42, WEXITSTATUS(run("--", own_path, "do", "exit", NULL)));
	EXPECT_EQ(128 + SIGTERM, WEXITSTATUS(run("--", own_path, "do", "die", NULL)));
	EXPECT_EQ(127, WEXITSTATUS(run("--", "/no-such-program", NULL)));
	EXPECT_NE(NULL, strstr(output, "mlock-why: /no-such-program: No such file"));
	/* It has not run: whether it would have been refused anything is not known. */
	EXPECT_EQ(1, lines());
	EXPECT_EQ(126, WEXITSTATUS(run("--", "/proc", NULL)));
	EXPECT_EQ(1, lines());
	/* Its instance is gone each time. */
	EXPECT_EQ(0, run("--", own_path, "do", "nothing", NULL));
	EXPECT_EQ(0, left_behind());
}

TEST_F(mlock_why, user)
{
	static const char *const none[] = { "", "-1", "4294967295", "4294967296", "0x0" };

	EXPECT_EQ(0, run("-u", "65534", "--", own_path, "do", "nothing", NULL));
	EXPECT_EQ(125, WEXITSTATUS(run("-u", "no-such-user", "--", own_path, "do", "nothing",
				       NULL)));
	EXPECT_NE(NULL, strstr(output, "there is no user 'no-such-user'"));
	/* None of these is root, nor who we are. */
	for (unsigned int i = 0; i < ARRAY_SIZE(none); i++)
		EXPECT_EQ(125, WEXITSTATUS(run("-u", none[i], "--", own_path, "do",
					       "nothing", NULL)));
}

static bool put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

TEST_F(mlock_why, groups_of_the_user)
{
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	ASSERT_EQ(0, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ASSERT_EQ(true, !mkdir("/etc", 0755) || errno == EEXIST);
	ASSERT_EQ(0, mount("tmpfs", "/etc", "tmpfs", 0, NULL));
	ASSERT_EQ(true, put_file("/etc/passwd", "root:x:0:0::/:\nsomebody:x:4711:4712::/:\n"));
	ASSERT_EQ(true, put_file("/etc/group", "a:x:4713:root,somebody\n"
					       "b:x:4714:root\nc:x:4715:somebody\n"));
	EXPECT_EQ(0, run("-u", "somebody", "--", own_path, "do", "groups", NULL));
	EXPECT_EQ(0, run("-u", "4711", "--", own_path, "do", "groups", NULL));
}

TEST_F(mlock_why, json)
{
	char want[512];

	EXPECT_EQ(0, run("--json", "--", own_path, "do", "over", NULL));
	EXPECT_EQ(1, lines());
	EXPECT_EQ(output, strstr(output, "{\"event\":\"refused\",\"time\":"));
	EXPECT_NE(NULL, strstr(output, ",\"comm\":\"mlock-why-test\",\"pid\":"));
	snprintf(want, sizeof(want),
		 "\"caller\":\"mlock2\",\"reason\":\"over_limit\",\"errno\":\"ENOMEM\",\"start\":");
	EXPECT_NE(NULL, strstr(output, want));
	snprintf(want, sizeof(want),
		 ",\"len\":%lu,\"locked\":0,\"total\":%lu,\"limit\":%lu,\"at\":0,\"cause\":\"none\",\"map_count\":",
		 P(17), P(17), P(16));
	EXPECT_NE(NULL, strstr(output, want));
	EXPECT_NE(NULL, strstr(output, "\"}\n"));
}

/* A process that is there already, and all of them. */
TEST_F(mlock_why, watch)
{
	char pid_text[32], *argv[][4] = {
		{ tool, "-p", pid_text, NULL },
		{ tool, "-a", NULL, NULL },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(argv); i++) {
		int fd, status;
		pid_t pid;

		snprintf(pid_text, sizeof(pid_text), "%d", getpid());
		pid = start(&fd, argv[i]);
		ASSERT_LT(0, pid);
		EXPECT_EQ(true, is_watching(fd));
		EXPECT_EQ(-EINVAL, do_mlockall(0));
		EXPECT_EQ(0, kill(pid, SIGINT));
		read_all(fd);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_EQ(1, lines());
		EXPECT_NE(NULL, strstr(output, "): mlockall() = EINVAL: the flags must have "
					       "MCL_CURRENT, MCL_FUTURE or both"));
	}
}

/*
 * What works on any kernel
 */

FIXTURE(mlock_why_anywhere)
{
};

FIXTURE_SETUP(mlock_why_anywhere)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!find_tool())
		SKIP(return, "no mlock-why: set MLOCK_WHY");
}

FIXTURE_TEARDOWN(mlock_why_anywhere)
{
}

TEST_F(mlock_why_anywhere, report)
{
	char pid[32], want[256], *p = region(16);

	ASSERT_NE(NULL, p);
	snprintf(pid, sizeof(pid), "%d", getpid());
	EXPECT_EQ(0, run("--report", pid, NULL));
	EXPECT_NE(NULL, strstr(output, "\nIt has CAP_IPC_LOCK: no limit counts, "));
	ASSERT_EQ(0, set_limit(P(64)));
	ASSERT_EQ(0, drop_cap());
	EXPECT_EQ(0, run("--report", pid, NULL));
	EXPECT_EQ(NULL, strstr(output, "CAP_IPC_LOCK"));
	EXPECT_NE(NULL, strstr(output, "No mapping is locked.\n"));

	ASSERT_EQ(0, do_mlock(p, P(2)));
	ASSERT_EQ(0, do_mlock2(p + P(4), P(8), MLOCK_ONFAULT));
	touch(p + P(4), 3);
	EXPECT_EQ(0, run("--report", pid, NULL));
	snprintf(want, sizeof(want), "mlock-why-test (pid %s): RLIMIT_MEMLOCK %s, charged (VmLck) %s\n",
		 pid, size(P(64)), size(P(10)));
	EXPECT_EQ(output, strstr(output, want));
	/* The largest one first. */
	snprintf(want, sizeof(want), "\n%10lu %10lu %10lu  onfault  %lx-%lx (anonymous)\n%10lu %10lu %10lu  locked   %lx-%lx (anonymous)\n%10lu %10lu %10lu  in 2 mappings\n",
		 P(8) >> 10, P(3) >> 10, P(3) >> 10, (unsigned long)p + P(4),
		 (unsigned long)p + P(12), P(2) >> 10, P(2) >> 10, P(2) >> 10,
		 (unsigned long)p, (unsigned long)p + P(2), P(10) >> 10, P(5) >> 10,
		 P(5) >> 10);
	EXPECT_NE(NULL, strstr(output, want));

	EXPECT_EQ(0, run("--json", "--report", pid, NULL));
	snprintf(want, sizeof(want), "{\"event\":\"report\",\"pid\":%s,\"comm\":\"mlock-why-test\",\"limit\":%lu,\"cap_ipc_lock\":false,\"charged\":%lu,\"pinned\":0,\"size\":%lu,\"resident\":%lu,\"locked\":%lu,\"mappings\":[{",
		 pid, P(64), P(10), P(10), P(5), P(5));
	EXPECT_EQ(output, strstr(output, want));
	EXPECT_EQ(1, lines());
}

/* A number of the last line of --json --system, or -1 for null. */
static long of_system(const char *key)
{
	char want[64], *p = strstr(output, "{\"event\":\"system\"");
	long val = -1;

	snprintf(want, sizeof(want), "\"%s\":", key);
	p = p ? strstr(p, want) : NULL;
	if (p)
		sscanf(p + strlen(want), "%ld", &val);
	return val;
}

TEST_F(mlock_why_anywhere, names)
{
	char pid[32], name[250], want[300], *p;
	int fd = memfd_create("a\033b", 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(1)));
	p = mmap(NULL, P(1), RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, do_mlock(p, P(1)));
	prctl(PR_SET_NAME, "a\nb\\012\033");
	snprintf(pid, sizeof(pid), "%d", getpid());
	EXPECT_EQ(0, run("--report", pid, NULL));
	EXPECT_EQ(output, strstr(output, "a\\012b\\134012\\033 (pid "));
	EXPECT_NE(NULL, strstr(output, " /memfd:a\\033b (deleted)\n"));
	EXPECT_EQ(0, run("--json", "--report", pid, NULL));
	EXPECT_NE(NULL, strstr(output, "\"comm\":\"a\\u000ab\\\\012\\u001b\","));
	EXPECT_NE(NULL, strstr(output, "\"name\":\"/memfd:a\\u001bb (deleted)\"}"));
	EXPECT_EQ(0, run("--system", NULL));
	EXPECT_NE(NULL, strstr(output, " a\\012b\\134012\\033 (pid "));

	/* All of a long one */
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	fd = memfd_create(name, 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(1)));
	ASSERT_EQ(p, mmap(p, P(1), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(0, run("--json", "--report", pid, NULL));
	snprintf(want, sizeof(want), "\"name\":\"/memfd:%s (deleted)\"}", name);
	EXPECT_NE(NULL, strstr(output, want))
		TH_LOG("%s", output);
}

TEST_F(mlock_why_anywhere, pid_namespace)
{
	if (unshare(CLONE_NEWPID))
		SKIP(return, "no PID namespaces");
	EXPECT_EQ(125, WEXITSTATUS(run("--", own_path, "do", "nothing", NULL)));
	EXPECT_NE(NULL, strstr(output, "mlock-why: in this PID namespace, "));
	EXPECT_EQ(1, lines());
}

#ifdef __NR_memfd_secret
TEST_F(mlock_why_anywhere, secretmem)
{
	int fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	const long pages = 512;
	long secret, unevictable, before = charged();
	pid_t pid;
	char *p;

	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	/* It counts against the limit, whatever capability there is. */
	set_limit(RLIM_INFINITY);
	ASSERT_EQ(0, ftruncate(fd, P(pages)));
	p = mmap(NULL, P(pages), RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, run("--json", "--system", NULL));
	secret = of_system("secretmem");
	unevictable = of_system("unevictable");
	/* Two processes have it mapped, and it counts once. */
	touch(p, pages);
	pid = fork();
	if (!pid) {
		touch(p, pages);
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, NULL, WUNTRACED));
	EXPECT_EQ(0, run("--json", "--system", NULL));
	/* Some of it may still be in batches of the CPUs. */
	EXPECT_LT(unevictable + (long)P(pages / 2), of_system("unevictable"));
	/* Older kernels lock it, but not what a child has of it. */
	EXPECT_EQ((secret < 0 ? 0 : secret) + (long)P(charged() == before ? pages : pages / 2),
		  of_system("secretmem"));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
}
#endif

/* What may not be looked at is not 0. */
TEST_F(mlock_why_anywhere, hidden_processes)
{
	char pid_text[32], want[128], *p = region(2);
	int fds[2];
	pid_t pid;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(fds[1]);
		_exit(do_mlock(p, P(2)) || read(fds[0], p, 1));
	}
	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	snprintf(want, sizeof(want), "/proc/%d/status", pid);
	while (find_pages(want, "VmLck:") != 2)
		usleep(1000);

	ASSERT_EQ(0, limited(P(1)));
	EXPECT_EQ(0, run("--system", NULL));
	snprintf(want, sizeof(want), "\n%10lu          ?          ?  ", P(2) >> 10);
	EXPECT_NE(NULL, strstr(output, want));
	EXPECT_NE(NULL, strstr(output, " mapped that may not be looked at (CAP_SYS_PTRACE).\n"));
	EXPECT_NE(NULL, strstr(output, "\n         ? kB of that is resident and locked"));
	EXPECT_EQ(0, run("--json", "--system", NULL));
	snprintf(want, sizeof(want), ",\"charged\":%lu,\"pinned\":0,\"resident\":null,\"locked\":null}\n",
		 P(2));
	EXPECT_NE(NULL, strstr(output, want));
	EXPECT_LT(0, of_system("unreadable"));
	EXPECT_EQ(-1, of_system("locked"));

	EXPECT_EQ(125, WEXITSTATUS(run("--report", pid_text, NULL)));
	snprintf(want, sizeof(want), ", charged (VmLck) %s\n", size(P(2)));
	EXPECT_NE(NULL, strstr(output, want));
	EXPECT_EQ(125, WEXITSTATUS(run("--json", "--report", pid_text, NULL)));
	EXPECT_NE(NULL, strstr(output, ",\"size\":null,\"resident\":null,\"locked\":null,"
				       "\"mappings\":null}\n"));
	close(fds[1]);
	waitpid(pid, NULL, 0);
}

TEST_F(mlock_why_anywhere, system)
{
	char want[256], *p = region(8);
	int id = shmget(IPC_PRIVATE, P(4), IPC_CREAT | 0600);
	char *q = shmat(id, NULL, 0);
	unsigned long shm = 0;

	ASSERT_LE(0, id);
	ASSERT_NE((void *)-1, q);
	touch(q, 4);
	ASSERT_EQ(0, shmctl(id, SHM_LOCK, NULL));
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(8)));
	EXPECT_EQ(0, run("--system", NULL));
	snprintf(want, sizeof(want), "%10lu %10lu %10lu  ", P(8) >> 10, P(8) >> 10, P(8) >> 10);
	EXPECT_NE(NULL, strstr(output, want));
	snprintf(want, sizeof(want), "mlock-why-test (pid %d)\n", getpid());
	EXPECT_NE(NULL, strstr(output, want));
	EXPECT_NE(NULL, strstr(output, " kB Mlocked in /proc/meminfo\n"));
	p = strstr(output, " kB     System V shared memory with SHM_LOCK\n");
	ASSERT_NE(NULL, p);
	while (p > output && p[-1] != '\n')
		p--;
	EXPECT_EQ(1, sscanf(p, "%lu kB", &shm));
	EXPECT_LE(P(4) >> 10, shm);
	EXPECT_EQ(0, shmctl(id, IPC_RMID, NULL));

	EXPECT_EQ(0, run("--json", "--system", NULL));
	EXPECT_NE(NULL, strstr(output, "{\"event\":\"system\",\"processes\":"));
}

static int hide_proc(void)
{
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount("tmpfs", "/proc", "tmpfs", 0, NULL);
}

/* What is not there is not 0. */
TEST_F(mlock_why_anywhere, without_proc)
{
	before_exec = hide_proc;
	EXPECT_EQ(125, WEXITSTATUS(run("--system", NULL)));
	EXPECT_NE(NULL, strstr(output, "mlock-why: cannot read /proc: "));
	EXPECT_EQ(1, lines());
	EXPECT_EQ(125, WEXITSTATUS(run("--report", "1", NULL)));
	EXPECT_NE(NULL, strstr(output, "mlock-why: cannot read /proc: "));
	EXPECT_EQ(1, lines());
	before_exec = NULL;
}

TEST_F(mlock_why_anywhere, clear_messages)
{
	EXPECT_EQ(125, WEXITSTATUS(run(NULL)));
	EXPECT_NE(NULL, strstr(output, "a command, -p, -a, --report or --system is wanted"));
	EXPECT_EQ(125, WEXITSTATUS(run("-a", "--system", NULL)));
	EXPECT_NE(NULL, strstr(output, "exclude each other"));
	EXPECT_EQ(125, WEXITSTATUS(run("-p", "0x1", NULL)));
	EXPECT_NE(NULL, strstr(output, "'0x1' is no process number"));
	EXPECT_EQ(125, WEXITSTATUS(run("--report", "2147483647", NULL)));
	EXPECT_NE(NULL, strstr(output, "there is no process 2147483647"));
	EXPECT_EQ(125, WEXITSTATUS(run("-o", "/dev/full", "--system", NULL)));
	EXPECT_NE(NULL, strstr(output, "mlock-why: cannot write /dev/full"));
	EXPECT_EQ(0, run("--help", NULL));
	EXPECT_EQ(output, strstr(output, "Usage: mlock-why"));

	/* Without privilege, and without tracefs or its events */
	ASSERT_EQ(0, limited(P(1)));
	EXPECT_EQ(125, WEXITSTATUS(run("--", own_path, "do", "nothing", NULL)));
	EXPECT_EQ(1, lines());
	EXPECT_TRUE(strstr(output, "in this PID namespace") ||
		    strstr(output, "needs root") || strstr(output, "tracefs is not at ") ||
		    strstr(output, "this kernel has no events for mlock"));
	EXPECT_EQ(125, WEXITSTATUS(run("--report", "1", NULL)));
	EXPECT_NE(NULL, strstr(output, ": you may need to be the user of the process, or "));
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "do"))
		return do_what(argv[2]);
	return test_harness_run(argc, argv);
}
