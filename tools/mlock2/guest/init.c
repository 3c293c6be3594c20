// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the test guest: runs what /plan lists, one program after the other,
 * and switches the machine off.
 *
 * First, it loads the modules that are in the root, /NAME.ko.
 *
 * A line of /plan is "name user program args...", the user "root" or "nobody".
 * The host finds the tests in the console's output by these lines, which always
 * have a line of their own:
 *
 *	### mlock2 begin NAME
 *	### mlock2 end NAME exit=N | signal=N | timeout | missing
 *	### mlock2 error TEXT
 *	### mlock2 done
 *
 * Kernel parameters: mlock2.limit=SECS for one program, mlock2.end=reboot for
 * machines that stay up after a power-off (QEMU leaves with -no-reboot).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NOBODY		65534
#define MAX_ARGS	64
#define REAP_SECS	10
#define BLANKS		" \t\n"

/* Documentation/admin-guide/tainted-kernels.rst */
#define TAINT_BAD_PAGE		5
#define TAINT_DIE		7
#define TAINT_WARN		9
#define TAINT_SOFTLOCKUP	14

#define KLOG_CONSOLE_LEVEL	8
#define SHOW_ALL_BUT_DEBUG	7

static long limit_secs = 300;
static bool end_by_reboot;

/*
 * One write() for the line, and a newline before it: the program before may have
 * left its last line open. The host drops the empty line where it did not.
 */
static __attribute__((format(printf, 1, 2))) void mark(const char *fmt, ...)
{
	static const char head[] = "\n### mlock2 ";
	char line[512];
	int len = sizeof(head) - 1;
	va_list ap;

	memcpy(line, head, len);
	va_start(ap, fmt);
	len += vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';

	if (write(STDOUT_FILENO, line, len) != len)
		return;	/* there is nowhere else to tell it */
	tcdrain(STDOUT_FILENO);
}

static void mount_one(const char *type, const char *dir, const char *options,
		      bool required)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, options) && required)
		mark("error cannot mount %s on %s: %s: is it in the kernel's configuration?",
		     type, dir, strerror(errno));
}

/*
 * For the names of tasks, each event that is turned on or off patches the
 * scheduler's code. A CPU that QEMU emulates may still run what another one has
 * just patched away, which ends with "Oops: int3".
 */
static void no_names_in_traces(void)
{
	int fd = open("/sys/kernel/tracing/options/record-cmd", O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, "0", 1) != 1)
		mark("error cannot turn off record-cmd: %s", strerror(errno));
	close(fd);
}

static void setup(void)
{
	int fd;

	/* before any message, which needs the console of the new /dev */
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL))
		mark("error cannot mount devtmpfs on /dev: %s: is CONFIG_DEVTMPFS=y?",
		     strerror(errno));

	fd = open("/dev/console", O_RDWR);
	if (fd >= 0) {
		dup2(fd, STDIN_FILENO);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		if (fd > STDERR_FILENO)
			close(fd);
	}

	mount_one("proc", "/proc", NULL, true);
	mount_one("sysfs", "/sys", NULL, true);
	mount_one("tmpfs", "/tmp", "mode=1777", true);
	mount_one("tmpfs", "/dev/shm", "mode=1777", true);
	mount_one("cgroup2", "/sys/fs/cgroup", NULL, false);
	mount_one("tracefs", "/sys/kernel/tracing", NULL, false);
	no_names_in_traces();

	klogctl(KLOG_CONSOLE_LEVEL, NULL, SHOW_ALL_BUT_DEBUG);
}

/* Loads the module @path. One that needs another one first fails with ENOENT. */
static bool load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool ok;
	int err;

	if (fd < 0)
		return false;
	ok = !syscall(SYS_finit_module, fd, "", 0) || errno == EEXIST;
	err = errno;
	close(fd);
	errno = err;
	return ok;
}

/* In a distribution's kernel, something of what the tests use is a module. */
static void load_modules(void)
{
	bool *loaded, progress;
	glob_t found;
	size_t i;

	if (glob("/*.ko", 0, NULL, &found))
		return;
	loaded = calloc(found.gl_pathc, sizeof(*loaded));
	if (!loaded)
		return;

	/* in whichever order they depend on each other */
	do {
		progress = false;
		for (i = 0; i < found.gl_pathc; i++) {
			if (!loaded[i] && load_module(found.gl_pathv[i])) {
				loaded[i] = true;
				progress = true;
			}
		}
	} while (progress);

	for (i = 0; i < found.gl_pathc; i++) {
		if (!loaded[i] && !load_module(found.gl_pathv[i]))
			mark("error cannot load %s: %s", found.gl_pathv[i], strerror(errno));
	}
	free(loaded);
	globfree(&found);
}

static void read_parameters(void)
{
	char line[4096], *word, *rest;
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f)
		return;
	if (fgets(line, sizeof(line), f)) {
		for (word = strtok_r(line, BLANKS, &rest); word;
		     word = strtok_r(NULL, BLANKS, &rest)) {
			if (!strncmp(word, "mlock2.limit=", 13))
				limit_secs = strtol(word + 13, NULL, 10);
			else if (!strcmp(word, "mlock2.end=reboot"))
				end_by_reboot = true;
		}
	}
	fclose(f);
}

static __attribute__((noreturn)) void
run_program(const char *path, char **argv, bool nobody)
{
	static char *env[] = { "PATH=/bin", "HOME=/tmp", NULL };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();

	if (chdir("/tmp"))
		dprintf(STDERR_FILENO, "mlock2: cannot go to /tmp: %s\n", strerror(errno));
	else if (nobody && (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
			    setresuid(NOBODY, NOBODY, NOBODY)))
		dprintf(STDERR_FILENO, "mlock2: cannot become nobody: %s: is CONFIG_MULTIUSER=y?\n",
			strerror(errno));
	else if (execve(path, argv, env))
		dprintf(STDERR_FILENO, "mlock2: cannot execute %s: %s\n", path, strerror(errno));
	_exit(127);
}

/*
 * Reap whatever ends (orphans come to PID 1, too) until @pid has ended, or with
 * @pid 0 until no child is left. Returns false when that takes longer than @secs.
 */
static bool reap(pid_t pid, long secs, int *status)
{
	struct timespec now, left = { .tv_sec = 1 };
	sigset_t chld;
	time_t end;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + secs;

	for (;;) {
		int st;
		pid_t got = waitpid(-1, &st, WNOHANG);

		if (got > 0 && got == pid) {
			*status = st;
			return true;
		}
		if (got > 0)
			continue;
		if (got < 0)
			return pid == 0;

		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec >= end)
			return false;
		/* SIGCHLD is blocked, so none is lost; at most a second late */
		sigtimedwait(&chld, NULL, &left);
	}
}

static void run_entry(char *line)
{
	char *argv[MAX_ARGS + 1], *rest, *name, *user, *word, path[256];
	int argc = 0, status = 0;
	bool in_time;
	pid_t pid;

	name = strtok_r(line, BLANKS, &rest);
	if (!name || name[0] == '#')
		return;
	user = strtok_r(NULL, BLANKS, &rest);
	while (argc < MAX_ARGS && (word = strtok_r(NULL, BLANKS, &rest)))
		argv[argc++] = word;
	argv[argc] = NULL;
	if (!argc || (strcmp(user, "root") && strcmp(user, "nobody"))) {
		mark("error /plan: \"%s\": want: name root|nobody program args...", name);
		return;
	}

	mark("begin %s", name);
	snprintf(path, sizeof(path), "/bin/%s", argv[0]);
	if (access(path, X_OK)) {
		dprintf(STDERR_FILENO, "mlock2: %s: %s\n", path, strerror(errno));
		mark("end %s missing", name);
		return;
	}

	pid = fork();
	if (pid < 0) {
		mark("error cannot fork for %s: %s", name, strerror(errno));
		return;
	}
	if (!pid)
		run_program(path, argv, !strcmp(user, "nobody"));

	in_time = reap(pid, limit_secs, &status);
	/*
	 * Nothing of one test may live on into the next. What cannot be killed
	 * must not keep the rest from running.
	 */
	kill(-1, SIGKILL);
	if (!reap(0, REAP_SECS, &status))
		mark("error a process of %s cannot be killed", name);

	if (!in_time)
		mark("end %s timeout", name);
	else if (WIFSIGNALED(status))
		mark("end %s signal=%d", name, WTERMSIG(status));
	else
		mark("end %s exit=%d", name, WEXITSTATUS(status));
}

/* What went wrong in the kernel is noted there, whatever of it came to the console. */
static void check_taint(void)
{
	const unsigned long bad = 1UL << TAINT_DIE | 1UL << TAINT_BAD_PAGE |
				  1UL << TAINT_WARN | 1UL << TAINT_SOFTLOCKUP;
	unsigned long taint = 0;
	FILE *f = fopen("/proc/sys/kernel/tainted", "r");

	if (!f || fscanf(f, "%lu", &taint) != 1)
		mark("error cannot read /proc/sys/kernel/tainted");
	else if (taint & bad)
		mark("error the kernel is tainted: %#lx", taint);
	if (f)
		fclose(f);
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;
	sigset_t chld;
	FILE *plan;

	if (getpid() != 1) {
		fprintf(stderr, "This is PID 1 of a test guest; \"mlock2 boot\" starts it.\n");
		return 1;
	}

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);

	setup();
	read_parameters();
	load_modules();

	plan = fopen("/plan", "re");
	if (!plan) {
		mark("error /plan: %s: the initramfs must have it", strerror(errno));
	} else {
		while (getline(&line, &size, plan) > 0)
			run_entry(line);
		fclose(plan);
	}
	check_taint();
	mark("done");

	sync();
	if (!end_by_reboot)
		reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)	/* PID 1 must not end: that would be a panic */
		pause();
}
