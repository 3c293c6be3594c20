// SPDX-License-Identifier: GPL-2.0
/*
 * Shows what mlock2(MLOCK_ONFAULT) is for and where its limits are, and has
 * mlock-why explain what was refused. Checks every figure that it prints. Exits
 * with 1 if one is not as it must be.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB		(1024UL * 1024)
#define MAP_SIZE	(256 * MIB)
#define STRIDE		100
#define NOBODY		65534
#define SMALL_LIMIT	(64 * 1024UL)
#define UNKNOWN_FLAG	0x80
#define MLOCK_WHY	"/mlock-why"
#define EVENTS		"/sys/kernel/tracing/events/mlock"

static size_t page_size;
static size_t limit;
static int wrong;

static __attribute__((noreturn)) void die(const char *what)
{
	printf("demo: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* The C library's mlock2() may fall back on mlock(): call the kernel itself. */
static int mlock2_call(void *addr, size_t len, unsigned int flags)
{
	return syscall(SYS_mlock2, addr, len, flags);
}

/* The value of "Name:   123 kB", if @line is the line of that name. */
static bool field(const char *line, const char *name, unsigned long *kb)
{
	size_t len = strlen(name);

	return !strncmp(line, name, len) && line[len] == ':' &&
	       sscanf(line + len + 1, "%lu kB", kb) == 1;
}

static unsigned long vmlck(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kb = -1UL;
	char line[256];

	if (!f)
		die("/proc/self/status");
	while (fgets(line, sizeof(line), f) && !field(line, "VmLck", &kb))
		;
	fclose(f);
	return kb;
}

/* Rss and Locked of the vma that starts at @map. */
static void read_smaps(const void *map, unsigned long *rss, unsigned long *locked)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool inside = false;
	char line[1024];

	*rss = -1UL;
	*locked = -1UL;
	if (!f)
		die("/proc/self/smaps (is CONFIG_PROC_PAGE_MONITOR=y?)");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start == (unsigned long)map;
		else if (inside && !field(line, "Rss", rss))
			field(line, "Locked", locked);
	}
	fclose(f);
}

static void show(const char *step, const void *map, unsigned long want_vmlck,
		 unsigned long want_rss, unsigned long want_locked, const char *meaning)
{
	unsigned long lck = vmlck(), rss, locked;

	read_smaps(map, &rss, &locked);
	printf("  %-30s %8lu %8lu %8lu   %s\n", step, lck, rss, locked, meaning);
	if (lck != want_vmlck || rss != want_rss || locked != want_locked) {
		printf("  %-30s %8lu %8lu %8lu   <- WRONG: this line is what it must be\n",
		       "", want_vmlck, want_rss, want_locked);
		wrong++;
	}
}

static void one_range_four_ways(void)
{
	size_t pages = MAP_SIZE / page_size, touched = 0;
	unsigned long all = MAP_SIZE / 1024, some;
	char *map, step[64];

	/*
	 * A page without access on either side keeps the neighbours' vmas from
	 * merging with this one, and huge pages would bring in more than is
	 * touched.
	 */
	map = mmap(NULL, MAP_SIZE + 2 * page_size, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		die("mmap");
	map += page_size;
	if (mprotect(map, MAP_SIZE, PROT_READ | PROT_WRITE))
		die("mprotect");
	if (madvise(map, MAP_SIZE, MADV_NOHUGEPAGE) && errno != EINVAL)
		die("madvise(MADV_NOHUGEPAGE)");

	printf("One mapping of %lu MiB: anonymous, private, %zu pages of %zu KiB.\n",
	       MAP_SIZE / MIB, pages, page_size / 1024);
	printf("VmLck is what the process is charged. Rss and Locked are the mapping's own.\n\n");
	printf("  %-30s %8s %8s %8s\n", "figures in kB", "VmLck", "Rss", "Locked");

	show("mmap()", map, 0, 0, 0, "nothing is there yet");

	if (mlock2_call(map, MAP_SIZE, MLOCK_ONFAULT))
		die("mlock2(MLOCK_ONFAULT)");
	show("mlock2(MLOCK_ONFAULT)", map, all, 0, 0, "all is charged, nothing is brought in");

	for (size_t i = 0; i < pages; i += STRIDE, touched++)
		map[i * page_size] = 1;
	some = touched * page_size / 1024;
	snprintf(step, sizeof(step), "write to every %dth page", STRIDE);
	show(step, map, all, some, some, "what was touched is locked");

	if (mlock(map, MAP_SIZE))
		die("mlock");
	show("mlock()", map, all, all, all, "all is brought in, charged once");

	if (munlock(map, MAP_SIZE))
		die("munlock");
	show("munlock()", map, 0, all, 0, "all may be reclaimed again");

	if (munmap(map - page_size, MAP_SIZE + 2 * page_size))
		die("munmap");
}

static void expect(const char *limit, const char *call, long ret, int want)
{
	int got = ret == -1 ? errno : 0;

	printf("  %-7s  %-40s %s%s", limit, call, got ? strerrorname_np(got) : "0",
	       got == want ? "\n" : "   <- WRONG: ");
	if (got != want) {
		printf("it must be %s\n", want ? strerrorname_np(want) : "0");
		wrong++;
	}
}

static void set_limit(rlim_t bytes)
{
	struct rlimit lim = { bytes, bytes };

	if (setrlimit(RLIMIT_MEMLOCK, &lim))
		die("setrlimit(RLIMIT_MEMLOCK)");
}

static void without_privilege(void)
{
	size_t over = limit + page_size;
	char lim[32], call[64];
	void *map, *locked;

	set_limit(limit);
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		die("cannot become nobody (is CONFIG_MULTIUSER=y?)");
	map = mmap(NULL, over, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		die("mmap");

	snprintf(lim, sizeof(lim), "%zu KiB", limit / 1024);
	snprintf(call, sizeof(call), "mlock2(%zu KiB, MLOCK_ONFAULT)", limit / 1024);
	expect(lim, call, mlock2_call(map, limit, MLOCK_ONFAULT), 0);
	if (munlock(map, limit))
		die("munlock");

	snprintf(call, sizeof(call), "mlock2(%zu KiB, MLOCK_ONFAULT)", over / 1024);
	expect(lim, call, mlock2_call(map, over, MLOCK_ONFAULT), ENOMEM);

	snprintf(call, sizeof(call), "mmap(%zu KiB, MAP_LOCKED)", over / 1024);
	locked = mmap(NULL, over, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	expect(lim, call, locked == MAP_FAILED ? -1 : 0, EAGAIN);

	snprintf(call, sizeof(call), "mlock2(%zu KiB, flags 0x%x)", limit / 1024, UNKNOWN_FLAG);
	expect(lim, call, mlock2_call(map, limit, UNKNOWN_FLAG), EINVAL);
	expect(lim, "mlockall(MCL_ONFAULT)", mlockall(MCL_ONFAULT), EINVAL);

	set_limit(0);
	snprintf(call, sizeof(call), "mlock2(%zu KiB, MLOCK_ONFAULT)", page_size / 1024);
	expect("0", call, mlock2_call(map, page_size, MLOCK_ONFAULT), EPERM);
}

/* Run the calls of without_privilege() once more under mlock-why. */
static void explained(void)
{
	const char *const want[] = {
		"= ENOMEM: RLIMIT_MEMLOCK is ",
		", MAP_LOCKED) = EAGAIN: RLIMIT_MEMLOCK is ",
		"= EINVAL: the only flag is MLOCK_ONFAULT",
		"mlockall() = EINVAL: the flags must have ",
		"= EPERM: RLIMIT_MEMLOCK is 0: ",
	};
	const size_t all = sizeof(want) / sizeof(want[0]);
	char line[1024], self[256];
	int fds[2], status;
	size_t n = 0;
	ssize_t len;
	pid_t pid;
	FILE *f;

	if (access(EVENTS, F_OK)) {
		printf("  This kernel has no trace events (CONFIG_TRACEPOINTS).\n");
		return;
	}
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (len < 0)
		die("/proc/self/exe");
	self[len] = '\0';
	if (pipe(fds))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		if (!freopen("/dev/null", "w", stdout))
			_exit(1);
		execl(MLOCK_WHY, MLOCK_WHY, "--", self, "refused", NULL);
		fprintf(stderr, "%s: %s\n", MLOCK_WHY, strerror(errno));
		_exit(1);
	}
	close(fds[1]);

	f = fdopen(fds[0], "r");
	while (f && fgets(line, sizeof(line), f)) {
		bool good = n < all && strstr(line, want[n]);

		line[strcspn(line, "\n")] = '\0';
		printf("  %s%s\n", line, good ? "" : "   <- WRONG");
		wrong += !good;
		n++;
	}
	if (f)
		fclose(f);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	if (n != all || !WIFEXITED(status) || WEXITSTATUS(status)) {
		printf("  <- WRONG: %zu calls were to be explained\n", all);
		wrong++;
	}
}

int main(int argc, char **argv)
{
	struct utsname uts;
	int status;
	pid_t pid;

	/* the child shares the output: no line may wait in a buffer */
	setvbuf(stdout, NULL, _IOLBF, 0);
	page_size = sysconf(_SC_PAGESIZE);
	limit = page_size > SMALL_LIMIT ? page_size : SMALL_LIMIT;
	if (argc == 2 && !strcmp(argv[1], "refused")) {
		without_privilege();
		return wrong ? 1 : 0;
	}
	if (uname(&uts))
		die("uname");
	printf("mlock2 on Linux %s, %s\n\n", uts.release, uts.machine);

	one_range_four_ways();

	printf("\nA process without privilege, and its RLIMIT_MEMLOCK:\n\n");
	printf("  %-7s  %-40s %s\n", "limit", "call", "result");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		wrong = 0;
		without_privilege();
		exit(wrong ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		wrong++;

	printf("\nThe same calls, and what mlock-why says of those that are refused:\n\n");
	explained();

	if (wrong) {
		printf("\nWRONG: the kernel did not do what it must; see the marked lines.\n");
		return 1;
	}
	printf("\nAll figures and results above are the expected ones.\n");
	return 0;
}
