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
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-helpers.h"

#define TRACEFS "/sys/kernel/tracing"
#define FEW_MAPPINGS 64
#define NOBODY 65534
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

static int do_what(const char *what)
{
	unsigned long limit = P(16);
	char *p = region(32);

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
	if (!strcmp(what, "mappings")) {
		char *many = region(2 * FEW_MAPPINGS);

		/* Every second page is a mapping of its own until there are too many. */
		for (int i = 1; i < 2 * FEW_MAPPINGS; i += 2) {
			if (mprotect(many + P(i), P(1), PROT_READ))
				break;
		}
		return refused(do_mlock(p + P(2), P(2)), ENOMEM);
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
	SAYS("shm", "): shmctl(SHM_LOCK) of %s = ENOMEM: RLIMIT_MEMLOCK is %s and the user has 0 KiB of shared memory locked; needs %s"
	     RAISE "\n", size(P(2)), size(P(1)), size(P(2)));
}

TEST_F(mlock_why, what_mlockall_did)
{
	double secs = -1;
	char *p;

	SAYS("future", "): mmap(%s) = EAGAIN: RLIMIT_MEMLOCK is %s and 0 KiB are locked; needs %s, for all that it maps is locked since it called mlockall(MCL_FUTURE), ",
	     size(P(17)), size(P(16)), size(P(17)));
	p = strstr(output, "(MCL_FUTURE), ");
	ASSERT_NE(NULL, p);
	EXPECT_EQ(1, sscanf(p, "(MCL_FUTURE), %lf s before: raise it", &secs));
	EXPECT_LE(0, secs);
	EXPECT_GT(10, secs);
}

TEST_F(mlock_why, capability_in_a_namespace)
{
	SAYS("namespace", RAISE "; it has that in a user namespace only, where it does not count\n");
}

TEST_F(mlock_why, what_is_not_mapped)
{
	SAYS("hole", ", %s into the range; what comes before that is locked now: the whole range has to be mapped\n",
	     size(P(4)));
	SAYS("unmapped", "): mlock(%s) = ENOMEM: nothing is mapped at 0x", size(P(1)));
	SAYS("flags", "): mlock2(%s) = EINVAL: the only flag is MLOCK_ONFAULT\n", size(P(1)));
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

TEST_F(mlock_why, exit_status)
{
	EXPECT_EQ(42, WEXITSTATUS(run("--", own_path, "do", "exit", NULL)));
	EXPECT_EQ(128 + SIGTERM, WEXITSTATUS(run("--", own_path, "do", "die", NULL)));
	EXPECT_EQ(127, WEXITSTATUS(run("--", "/no-such-program", NULL)));
	EXPECT_NE(NULL, strstr(output, "mlock-why: /no-such-program: No such file"));
	EXPECT_EQ(126, WEXITSTATUS(run("--", "/proc", NULL)));
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
		 ",\"len\":%lu,\"locked\":0,\"limit\":%lu,\"at\":0,\"cause\":\"none\",\"map_count\":",
		 P(17), P(16));
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
		char line[128] = "";
		int fd, status, n = 0;
		pid_t pid;

		snprintf(pid_text, sizeof(pid_text), "%d", getpid());
		pid = start(&fd, argv[i]);
		ASSERT_LT(0, pid);
		/* It says when it watches. */
		while (n < (int)sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
			n++;
		EXPECT_EQ(&line[0], strstr(line, "mlock-why: watching"));
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
	ASSERT_EQ(0, set_limit(P(64)));
	EXPECT_EQ(0, run("--report", pid, NULL));
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
	snprintf(want, sizeof(want), "{\"event\":\"report\",\"pid\":%s,\"comm\":\"mlock-why-test\",\"limit\":%lu,\"charged\":%lu,\"pinned\":0,\"size\":%lu,\"resident\":%lu,\"locked\":%lu,\"mappings\":[{",
		 pid, P(64), P(10), P(10), P(5), P(5));
	EXPECT_EQ(output, strstr(output, want));
	EXPECT_EQ(1, lines());
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
	EXPECT_EQ(0, run("--help", NULL));
	EXPECT_EQ(output, strstr(output, "Usage: mlock-why"));

	/* Without privilege, and without tracefs or its events */
	ASSERT_EQ(0, limited(P(1)));
	EXPECT_EQ(125, WEXITSTATUS(run("--", own_path, "do", "nothing", NULL)));
	EXPECT_EQ(1, lines());
	EXPECT_TRUE(strstr(output, "needs root") || strstr(output, "tracefs is not at ") ||
		    strstr(output, "this kernel has no events for mlock"));
	EXPECT_EQ(125, WEXITSTATUS(run("--report", "1", NULL)));
	EXPECT_NE(NULL, strstr(output, "be the user of the process, or have CAP_SYS_PTRACE"));
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "do"))
		return do_what(argv[2]);
	return test_harness_run(argc, argv);
}
