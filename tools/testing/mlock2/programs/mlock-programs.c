// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that lock memory, as Debian packages them, each doing its job.
 *
 * For each program:
 *  - locked: what it has locked, seen from outside; all of that stays while the
 *    rest of its memory is reclaimed, the secret in it is in no page of swap, and
 *    the program still works after that;
 *  - unlocked: without its option to lock, the same secret is found in swap;
 *  - refused: what the program says if RLIMIT_MEMLOCK is too small;
 *  - explained: what mlock-why says of that.
 *
 * Run as root on a machine that does nothing else, with the root file system that
 * tools/mlock2/distro/root.sh makes on /dev/vda, by 'make test-programs'. The lines
 * that begin with "same:" must be the same on every kernel.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "mlock-helpers.h"
#include "mlock-swap.h"

#define KB (1UL << 10)
#define MB (1UL << 20)
#define TIMEOUT 600		/* of a test */
#define PATIENCE 120		/* for a program to do something, in seconds */
#define SWAP_SIZE (320 * MB)
#define PLAIN_SIZE (16 * MB)
/* Less than any of them wants to lock. */
#define SMALL_LIMIT (16 * KB)
#define MOST_ARGS 32

#define ROOT "/tmp/debian"
#define DIR "/tmp/job"		/* where a program may leave files */
#define WHY "/tmp/mlock-why"
#define WHY_OUT DIR "/why.json"
#define OUT DIR "/out"		/* stdout and stderr of a program */
#define CLIENT_OUT "/tmp/client"

/*
 * A program, and what is known of it
 */

#define SECRET_LEN 64		/* letters */
#define SECRET_PAGES 256UL	/* of a file that is locked */

struct job {
	const struct group *group;
	pid_t pid;
	int in;			/* the other end of its stdin */
	int fd;			/* what else a program's functions have open */
	char secret[SECRET_LEN + 1];
};

struct program {
	const char *name;
	const char *const *argv;
	/* Without its option to lock memory; NULL if there is none. */
	const char *const *unlocked;
	bool on_fault;		/* It locks with MCL_ONFAULT. */
	bool varies;		/* How much it locks depends on how many threads it started. */
	/* The secret is in its environment, which is in its stack. */
	bool environment;
	/* The files that it reads, and so on. */
	bool (*prepare)(struct job *job);
	/* Does its job, with the secret, until it waits for more to do. */
	bool (*work)(struct job *job);
	/* Its end, if SIGTERM is not what ends it. */
	bool (*finish)(struct job *job);
	/* What it says if it may not lock memory, and whether it goes on. */
	const char *says;
	bool goes_on;
	/* What mlock-why says of that. */
	const char *caller, *error;
};

static void pause_ms(unsigned int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

static time_t seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

/* Evaluates @cond again and again until it is true, or it has taken too long. */
#define WAIT_FOR(cond) ({						\
	time_t end_ = seconds() + PATIENCE;				\
	bool ok_;							\
									\
	while (!(ok_ = (cond)) && seconds() < end_)			\
		pause_ms(100);						\
	ok_;								\
})

static bool put_file(const char *path, mode_t mode, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	size_t len = strlen(text);
	bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len && !fchmod(fd, mode);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool get_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t got;

	buf[0] = '\0';
	if (fd < 0)
		return false;
	while (len < size - 1 && (got = read(fd, buf + len, size - 1 - len)) > 0)
		len += got;
	buf[len] = '\0';
	close(fd);
	return true;
}

/* The line of a program's output that has this, or NULL. */
static char *output_line(const char *path, const char *part)
{
	static char buf[64 * KB];
	char *p;

	if (!get_file(path, buf, sizeof(buf)))
		return NULL;
	p = strstr(buf, part);
	if (!p)
		return NULL;
	p[strcspn(p, "\r\n")] = '\0';
	while (p > buf && p[-1] != '\n')
		p--;
	return p;
}

/* A log's line without the digits at its start. */
static const char *without_time(const char *line)
{
	return line + strspn(line, "0123456789-:TZ ");
}

static void show_output(const char *path)
{
	static char buf[64 * KB];
	char *rest = buf, *line;

	if (!get_file(path, buf, sizeof(buf)))
		return;
	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			ksft_print_msg("    %s\n", line);
	}
}

/*
 * A client that does its work and ends. What it prints is in @out, with what it
 * complains of; it is in no cgroup and not reclaimed.
 */
static bool client(char *out, size_t size, const char *const *argv)
{
	pid_t pid = fork();

	if (!pid) {
		int in = open("/dev/null", O_RDONLY);
		int fd = open(CLIENT_OUT, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		dup2(in, STDIN_FILENO);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	return !reap(pid) && get_file(CLIENT_OUT, out, size);
}

#define CLIENT(out, ...) \
	client(out, sizeof(out), (const char *const[]){ __VA_ARGS__, NULL })

/*
 * Start and end of a program
 */

/* What root in a container usually lacks: with these no limit counts. */
static bool drop_caps(void)
{
	return !prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) &&
	       !prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0);
}

static bool limit_locked(void)
{
	struct rlimit lim = { .rlim_cur = SMALL_LIMIT, .rlim_max = SMALL_LIMIT };

	return !setrlimit(RLIMIT_MEMLOCK, &lim) && drop_caps();
}

/* What keeps the end of the environment away from its start */
static const char *filler(void)
{
	static char text[16 * KB];

	memset(text, '.', sizeof(text) - 1);
	return text;
}

static bool start(struct job *job, const struct program *p, const char *const *argv,
		  bool limited)
{
	int in[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC))
		return false;
	pid = fork();
	if (!pid) {
		int out = open(OUT, O_WRONLY | O_CREAT | O_APPEND, 0666);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (p->environment) {
			/* Not in a page with the stack frames, which is always in use. */
			setenv("FILLER", filler(), 1);
			setenv("SECRET", job->secret, 1);
		}
		setenv("HOME", DIR, 1);
		setenv("LC_ALL", "C", 1);
		/* How many there are depends on which threads come together. */
		setenv("MALLOC_ARENA_MAX", "1", 1);
		dup2(in[0], STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		if (!chdir(DIR) && !group_join(job->group) && (!limited || limit_locked()))
			execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(in[0]);
	job->in = in[1];
	/* The job is in memory that the child shares. */
	job->pid = pid;
	return pid > 0;
}

/* The wait status once it has ended by itself. */
static bool has_ended(const struct job *job, int *status)
{
	return waitpid(job->pid, status, WNOHANG) == job->pid;
}

static bool is_running(const struct job *job)
{
	siginfo_t info = { .si_pid = 0 };

	return !waitid(P_PID, job->pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
	       !info.si_pid;
}

/* SIGTERM for all of the group but mlock-why. */
static void terminate_all(const struct group *group)
{
	char path[128], line[64], comm[64];
	FILE *f;
	int pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group->path);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		pid = atoi(line);
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		if (pid > 0 && get_file(path, comm, sizeof(comm)) &&
		    strcmp(comm, "mlock-why\n"))
			kill(pid, SIGTERM);
	}
	if (f)
		fclose(f);
}

/*
 * What it has locked, seen from outside
 */

#define KPF_ZERO_PAGE_BIT 24
#define SAMPLES 2048		/* pages of a mapping that are looked at */

struct locked {
	unsigned long charged;		/* VmLck */
	/* of the mappings that are locked, in kB */
	unsigned long size, rss, locked, swap;
	unsigned int lo, lf;
	/* sizes of what is missing in mappings that are locked in full */
	unsigned long absent;
	/* pages that were looked at */
	unsigned long samples, mlocked, zero, part, not_mlocked;
};

static long of_process(pid_t pid, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return find_number(path, key);
}

static void look_at_pages(pid_t pid, unsigned long start, unsigned long end,
			  struct locked *l)
{
	unsigned long pages = (end - start) / psize(), step = pages / SAMPLES + 1;
	int kpf = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC), map;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	map = open(path, O_RDONLY | O_CLOEXEC);
	for (unsigned long i = 0; i < pages; i += step) {
		uint64_t entry, again, flags;
		off_t at = (start / psize() + i) * sizeof(entry);

		if (pread(map, &entry, sizeof(entry), at) != sizeof(entry) ||
		    !(entry & PM_PRESENT) ||
		    pageflags_get(PAGEMAP_PFN(entry), kpf, &flags))
			continue;
		/* The program runs: the page may just have been replaced. */
		if (pread(map, &again, sizeof(again), at) != sizeof(again) || again != entry)
			continue;
		l->samples++;
		if (flags & BIT_ULL(KPF_ZERO_PAGE_BIT))
			l->zero++;
		else if (flags & BIT_ULL(KPF_MLOCKED))
			l->mlocked++;
		/* A large folio that is mapped in part only is not. */
		else if (flags & (BIT_ULL(HEAD_BIT) | BIT_ULL(TAIL_BIT)))
			l->part++;
		else if (l->not_mlocked++ < 8)
			ksft_print_msg("not mlocked: page %#lx of %#lx-%#lx, flags %#llx\n",
				       start + P(i), start, end, (unsigned long long)flags);
	}
	close(map);
	close(kpf);
}

static bool look_at(pid_t pid, struct locked *l)
{
	static const char *const keys[] = { "Size:", "Rss:", "Locked:", "Swap:" };
	unsigned long start = 0, end = 0, val[ARRAY_SIZE(keys)] = { 0 };
	char path[64], line[4096], perms[8] = "";
	FILE *f;

	*l = (struct locked){ .charged = of_process(pid, "VmLck:") };
	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		/* Only the first line of a mapping begins with a small letter. */
		if (line[0] < 'A' || line[0] > 'Z') {
			if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) != 3)
				break;
			continue;
		}
		for (unsigned int i = 0; i < ARRAY_SIZE(keys); i++) {
			size_t n = strlen(keys[i]);

			if (!strncmp(line, keys[i], n))
				val[i] = strtoul(line + n, NULL, 10);
		}
		/* The last line of a mapping */
		if (strncmp(line, "VmFlags:", 8) || !strstr(line, " lo"))
			continue;
		l->lo++;
		l->size += val[0];
		l->rss += val[1];
		l->locked += val[2];
		l->swap += val[3];
		if (strstr(line, " lf"))
			l->lf++;
		else if (perms[0] == 'r')
			l->absent += val[0] - val[1];
		look_at_pages(pid, start, end, l);
	}
	fclose(f);
	return true;
}

/* It has locked memory, and does not lock more at the moment. */
static bool is_steady(const struct job *job)
{
	long before = of_process(job->pid, "VmLck:");

	pause_ms(500);
	return before > 0 && of_process(job->pid, "VmLck:") == before;
}

/*
 * Secrets
 */

static bool make_secret(char *secret)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
	unsigned char bytes[SECRET_LEN];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return false;
	for (unsigned int i = 0; i < SECRET_LEN; i++)
		secret[i] = letters[bytes[i] % 64];
	secret[SECRET_LEN] = '\0';
	return true;
}

/* Either half counts: a secret may be in two pages. */
static bool has_secret(const char *page, const char *secret)
{
	return memmem(page, psize(), secret, SECRET_LEN / 2) ||
	       memmem(page, psize(), secret + SECRET_LEN / 2, SECRET_LEN / 2);
}

#define CHUNK (256 * KB)

/*
 * Reads the swap device, past the page cache, and counts the pages with the
 * secret, and those that a process without locked memory has written.
 */
static bool search(const struct swap *s, const char *secret, const char *plain,
		   unsigned long *secrets, unsigned long *plains)
{
	int fd = open(s->dev, O_RDONLY | O_DIRECT | O_CLOEXEC);
	char *buf = mmap(NULL, CHUNK, RW, ANON, -1, 0);
	ssize_t got = -1;
	size_t sum = 0;

	*secrets = *plains = 0;
	if (fd < 0 || buf == MAP_FAILED)
		return false;
	while ((got = read(fd, buf, CHUNK)) > 0) {
		sum += got;
		for (char *page = buf; page < buf + got; page += psize()) {
			/* Most of the device was never written to. */
			if (!page[0] && !memcmp(page, page + 1, psize() - 1))
				continue;
			if (!memcmp(page, plain, SECRET_LEN))
				++*plains;
			else
				*secrets += has_secret(page, secret);
		}
	}
	munmap(buf, CHUNK);
	close(fd);
	return !got && sum == P(s->pages);
}

/*
 * The stage: swap, a cgroup, and in it a process that has nothing locked
 */

FIXTURE(programs)
{
	struct swap swap;
	struct group group;
	struct job job;
	char plain[SECRET_LEN + 1];
	char *area;		/* of the process that has nothing locked */
	int area_map;		/* its pagemap */
	long mlocked;		/* on the machine */
};

FIXTURE_VARIANT(programs)
{
	const struct program *p;
};

static long count_mlocked(void)
{
	if (!drain())
		return -1;
	return find_pages("/proc/meminfo", "Mlocked:");
}

/* A process of the group that fills memory. It is made before there is a secret. */
static bool start_plain(FIXTURE_DATA(programs) *self)
{
	unsigned long pages = PLAIN_SIZE / psize();
	int ready[2];
	char path[64], c;
	pid_t pid;

	self->area = mmap(NULL, PLAIN_SIZE, RW, ANON, -1, 0);
	if (self->area == MAP_FAILED || pipe(ready))
		return false;
	madvise(self->area, PLAIN_SIZE, MADV_NOHUGEPAGE);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (group_join(&self->group))
			_exit(1);
		for (unsigned long i = 0; i < pages; i++) {
			memcpy(self->area + P(i), self->plain, SECRET_LEN);
			memcpy(self->area + P(i) + SECRET_LEN, &i, sizeof(i));
		}
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	self->area_map = open(path, O_RDONLY | O_CLOEXEC);
	return read(ready[0], &c, 1) == 1 && self->area_map >= 0;
}

FIXTURE_SETUP(programs)
{
	const char *why;
	char out[256];

	memset(self, 0, sizeof(*self));
	/* Ask drop_caches not to log each time. */
	write_str("/proc/sys/vm/drop_caches", "4");
	self->mlocked = count_mlocked();
	ASSERT_LE(0, self->mlocked);
	/* If a test before was ended for taking too long */
	CLIENT(out, "rm", "-rf", DIR);
	ASSERT_EQ(0, mkdir(DIR, 0777));
	ASSERT_EQ(0, chmod(DIR, 0777));
	why = swap_start(&self->swap, SWAP_SIZE / psize());
	if (!why)
		why = group_start(&self->group, 768 * MB / psize());
	if (why)
		TH_LOG("%s", why);
	ASSERT_EQ(NULL, why);
	ASSERT_EQ(true, make_secret(self->plain));
	ASSERT_EQ(true, start_plain(self));
	ASSERT_EQ(true, make_secret(self->job.secret));
	self->job.group = &self->group;
	ASSERT_EQ(true, !variant->p->prepare || variant->p->prepare(&self->job));
}

static bool is_empty(const struct group *group)
{
	char path[128], buf[16];

	snprintf(path, sizeof(path), "%s/cgroup.procs", group->path);
	return get_file(path, buf, sizeof(buf)) && !buf[0];
}

FIXTURE_TEARDOWN_PARENT(programs)
{
	char path[128], out[256];

	if (self->group.path[0]) {
		snprintf(path, sizeof(path), "%s/cgroup.kill", self->group.path);
		write_str(path, "1");
		WAIT_FOR(is_empty(&self->group));
	}
	group_stop(&self->group);
	swap_stop(&self->swap);
	CLIENT(out, "rm", "-rf", DIR);
}

/* Have all go that can. Whether that was all of what is not locked. */
static bool squeeze(FIXTURE_DATA(programs) *self)
{
	unsigned long pages = PLAIN_SIZE / psize();
	bool gone = false;
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.reclaim", self->group.path);
	for (int i = 0, more = 8; i < 40 && more; i++) {
		/* Anonymous memory and tmpfs first. In the end it fails, for want of more. */
		write_str(path, "512M swappiness=max");
		write_str(path, "512M");
		gone = !count_entries(self->area_map, self->area, pages, PM_PRESENT);
		more -= gone;
	}
	return gone;
}

/* Where the memory is that should have been reclaimed. */
static void show_memory(FIXTURE_DATA(programs) *self)
{
	static const char *const keys[] = {
		"anon ", "shmem ", "swapcached ", "active_anon ", "inactive_anon ", "unevictable ",
	};
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.stat", self->group.path);
	for (unsigned int i = 0; i < ARRAY_SIZE(keys); i++)
		ksft_print_msg("    %s%ld\n", keys[i], find_number(path, keys[i]));
	ksft_print_msg("    VmLck %ld kB, VmSwap %ld kB\n", of_process(self->job.pid, "VmLck:"),
		       of_process(self->job.pid, "VmSwap:"));
}

#define EXPECT_LOCKED(l) do {						\
	const struct locked *l_ = (l);					\
									\
	EXPECT_LT(0, l_->charged);					\
	EXPECT_EQ(l_->charged, l_->size);				\
	EXPECT_EQ(variant->p->on_fault ? l_->lo : 0, l_->lf);		\
	if (!variant->p->on_fault) {					\
		EXPECT_EQ(0, l_->absent);				\
	}								\
	EXPECT_EQ(0, l_->swap);						\
	EXPECT_LT(0, l_->locked);					\
	EXPECT_LE(l_->locked, l_->rss);					\
	EXPECT_LT(0, l_->mlocked);					\
	EXPECT_EQ(0, l_->not_mlocked);					\
	TH_LOG("VmLck %lu kB in %u mappings (%u lf), Rss %lu, Locked %lu; of %lu pages %lu mlocked, %lu zero, %lu of large folios", \
	       l_->charged, l_->lo, l_->lf, l_->rss, l_->locked,	\
	       l_->samples, l_->mlocked, l_->zero, l_->part);		\
} while (0)

/* The program as it is called here, doing its job. */
#define START(argv) do {						\
	ASSERT_EQ(true, start(&self->job, variant->p, argv, false));	\
	if (!variant->p->work(&self->job)) {				\
		show_output(OUT);					\
		ASSERT_EQ(true, false) TH_LOG("it does not do its job"); \
	}								\
} while (0)

static bool end_job(const struct program *p, struct job *job, int *status)
{
	if (p->finish)
		return p->finish(job) && WAIT_FOR(has_ended(job, status));
	kill(job->pid, SIGTERM);
	return WAIT_FOR(has_ended(job, status));
}

TEST_F_TIMEOUT(programs, locked, TIMEOUT)
{
	unsigned long secrets, plains;
	struct locked before, after;
	int status = 0;

	START(variant->p->argv);
	ASSERT_EQ(true, WAIT_FOR(is_steady(&self->job)));
	ASSERT_EQ(true, drain());
	ASSERT_EQ(true, look_at(self->job.pid, &before));
	EXPECT_LOCKED(&before);

	EXPECT_EQ(true, squeeze(self));
	ASSERT_EQ(true, search(&self->swap, self->job.secret, self->plain, &secrets, &plains));
	EXPECT_LT(PLAIN_SIZE / psize() / 2, plains);
	EXPECT_EQ(0, secrets);
	ASSERT_EQ(true, drain());
	ASSERT_EQ(true, look_at(self->job.pid, &after));
	EXPECT_LOCKED(&after);

	ASSERT_EQ(true, is_running(&self->job));
	EXPECT_EQ(true, variant->p->work(&self->job));
	EXPECT_EQ(true, end_job(variant->p, &self->job, &status));
	if (!variant->p->varies)
		ksft_print_msg("same: %s: VmLck %lu kB, lo %u, lf %u; after reclaim %lu kB, lo %u, lf %u\n",
			       variant->p->name, before.charged, before.lo, before.lf,
			       after.charged, after.lo, after.lf);
	ksft_print_msg("same: %s: pages of swap with the secret: %lu; end %#x\n",
		       variant->p->name, secrets, status);
	if (_metadata->exit_code == KSFT_FAIL)
		show_output(OUT);
	/* What is mapped nowhere is not mlocked. */
	EXPECT_EQ(self->mlocked, count_mlocked());
}

TEST_F_TIMEOUT(programs, unlocked, TIMEOUT)
{
	unsigned long secrets = 0, plains;

	if (!variant->p->unlocked)
		SKIP(return, "it always locks");
	START(variant->p->unlocked);
	/* A page that it has just used may stay for a while. */
	for (int i = 0; i < 10 && !secrets; i++) {
		EXPECT_EQ(true, squeeze(self));
		ASSERT_EQ(true, search(&self->swap, self->job.secret, self->plain,
				       &secrets, &plains));
	}
	EXPECT_LT(0, secrets);
	if (!secrets)
		show_memory(self);
}

/* What it says, and whether it goes on. */
#define EXPECT_REFUSED(kind) do {					\
	const struct program *p_ = variant->p;				\
	const char *said_ = NULL;					\
	int status_ = 0;						\
									\
	if (p_->says) {							\
		EXPECT_EQ(true, WAIT_FOR(output_line(OUT, p_->says) ||	\
					 !is_running(&self->job)));	\
		said_ = output_line(OUT, p_->says);			\
		EXPECT_NE(NULL, said_);					\
		if (said_)						\
			ksft_print_msg("%s: %s: says: %s\n", kind, p_->name,	\
				       without_time(said_));		\
		else							\
			show_output(OUT);				\
	} else {							\
		EXPECT_EQ(true, p_->work(&self->job) && p_->finish(&self->job)); \
	}								\
	if (p_->goes_on) {						\
		EXPECT_EQ(true, p_->work(&self->job));			\
		terminate_all(&self->group);				\
	}								\
	EXPECT_EQ(true, WAIT_FOR(has_ended(&self->job, &status_)));	\
	ksft_print_msg("%s: %s: %s, status %#x\n", kind, p_->name,	\
		       p_->goes_on ? "does its job until SIGTERM" : "ends", status_); \
	if (!p_->says) {						\
		EXPECT_EQ(0, status_);					\
	}								\
} while (0)

TEST_F_TIMEOUT(programs, refused, TIMEOUT)
{
	ASSERT_EQ(true, start(&self->job, variant->p, variant->p->argv, true));
	EXPECT_REFUSED("same");
}

/* Each refusal that mlock-why tells of, which must all be of that kind. */
static unsigned int count_explained(const struct program *p, unsigned int *wrong)
{
	static char buf[256 * KB];
	char caller[64], error[64], limit[64], *rest = buf, *line;
	unsigned int n = 0;

	snprintf(caller, sizeof(caller), "\"caller\":\"%s\"", p->caller);
	snprintf(error, sizeof(error), "\"errno\":\"%s\"", p->error);
	snprintf(limit, sizeof(limit), "\"limit\":%lu,", SMALL_LIMIT);
	if (!get_file(WHY_OUT, buf, sizeof(buf)))
		return 0;
	while ((line = strsep(&rest, "\n"))) {
		unsigned long len = 0, locked = 0;
		char *at = strstr(line, "\"len\":");

		if (!*line)
			continue;
		n++;
		if (at)
			sscanf(at, "\"len\":%lu,\"locked\":%lu", &len, &locked);
		if (strstr(line, caller) && strstr(line, error) && strstr(line, limit) &&
		    strstr(line, "\"reason\":\"over_limit\"") && len + locked > SMALL_LIMIT &&
		    strstr(line, "RLIMIT_MEMLOCK is 16 KiB and ") &&
		    strstr(line, ": raise it (ulimit -l, LimitMEMLOCK=), or give CAP_IPC_LOCK"))
			continue;
		++*wrong;
		ksft_print_msg("not expected: %s\n", line);
	}
	return n;
}

TEST_F_TIMEOUT(programs, explained, TIMEOUT)
{
	const char *argv[MOST_ARGS + 8] = { WHY, "-j", "-o", WHY_OUT, "--" };
	unsigned int n = 5, wrong = 0, found;

	if (access("/sys/kernel/tracing/events/mlock", F_OK))
		SKIP(return, "no trace events of mlock");
	for (unsigned int i = 0; variant->p->argv[i]; i++)
		argv[n++] = variant->p->argv[i];
	ASSERT_EQ(true, start(&self->job, variant->p, argv, true));
	EXPECT_REFUSED("with mlock-why");
	found = count_explained(variant->p, &wrong);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(!!variant->p->caller, !!found);
}

/*
 * The programs
 */

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Opens the other end of a FIFO once the program has opened it. */
static bool open_fifo(struct job *job, const char *path)
{
	return WAIT_FOR((job->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) >= 0 ||
			!is_running(job)) && job->fd >= 0;
}

static bool send_text(int fd, const char *text)
{
	size_t len = strlen(text);

	return write(fd, text, len) == (ssize_t)len;
}

/* A file with the secret in each page, in memory that is the group's. */
static bool secret_file(struct job *job)
{
	pid_t pid = fork();
	int fd;

	if (pid)
		return !reap(pid);
	if (group_join(job->group))
		_exit(1);
	fd = open(DIR "/secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	for (unsigned long i = 0; i < SECRET_PAGES; i++) {
		if (pwrite(fd, job->secret, SECRET_LEN, P(i)) != SECRET_LEN)
			_exit(1);
	}
	_exit(0);
}

/* A file with it once, in memory that is not the group's. */
static bool other_secret_file(struct job *job)
{
	return put_file(DIR "/secret", 0644, job->secret);
}

static bool is_charged(const struct job *job)
{
	return of_process(job->pid, "VmLck:") > 0;
}

/* GnuPG: libgcrypt's secure memory has the passphrase. */

static const char *const gpg_argv[] = {
	"gpg", "--homedir", DIR "/gpg", "--no-autostart", "--batch", "--pinentry-mode", "loopback",
	"--s2k-count", "65536", "--passphrase-fd", "0", "-c", "-o", DIR "/text.gpg", DIR "/text",
	NULL,
};

static bool gpg_prepare(struct job *job)
{
	return !mkdir(DIR "/gpg", 0700) && !mkfifo(DIR "/text", 0600);
}

static bool gpg_work(struct job *job)
{
	if (job->fd)
		return send_text(job->fd, "more of it\n");
	return send_text(job->in, job->secret) && send_text(job->in, "\n") &&
	       open_fifo(job, DIR "/text") && send_text(job->fd, "what is encrypted\n");
}

static bool gpg_finish(struct job *job)
{
	char out[4096];

	close(job->fd);
	return WAIT_FOR(!is_running(job)) && other_secret_file(job) &&
	       CLIENT(out, "gpg", "--homedir", DIR "/gpg", "--no-autostart", "--batch",
		      "--quiet", "--pinentry-mode", "loopback", "--passphrase-file", DIR "/secret",
		      "-d", DIR "/text.gpg") &&
	       strstr(out, "what is encrypted\nmore of it\n");
}

static const struct program gpg = {
	.name = "gpg",
	.argv = gpg_argv,
	.prepare = gpg_prepare,
	.work = gpg_work,
	.finish = gpg_finish,
	.says = "Warning: using insecure memory!",
	.goes_on = true,
	.caller = "mlock",
	.error = "ENOMEM",
};

/* cryptsetup: the passphrase and the key are in memory that it locks piece by piece. */

static const char *const cryptsetup_argv[] = {
	"cryptsetup", "luksFormat", "-q", "--cipher", "aes-xts-plain64", "--pbkdf", "pbkdf2",
	"--pbkdf-force-iterations", "1000", DIR "/disk", DIR "/key", NULL,
};

static bool cryptsetup_prepare(struct job *job)
{
	setenv("DM_DISABLE_UDEV", "1", 1);
	mkdir("/run/cryptsetup", 0700);
	return put_file(DIR "/disk", 0600, "") && !truncate(DIR "/disk", 20 * MB) &&
	       !mkfifo(DIR "/key", 0600);
}

/* It has read a part of the passphrase, and waits for the rest. */
static bool cryptsetup_work(struct job *job)
{
	return job->fd || (open_fifo(job, DIR "/key") && send_text(job->fd, job->secret));
}

static bool cryptsetup_finish(struct job *job)
{
	char out[4096];
	bool ok;

	close(job->fd);
	if (!WAIT_FOR(!is_running(job)) || !other_secret_file(job))
		return false;
	ok = CLIENT(out, "cryptsetup", "open", "--test-passphrase", "--key-file", DIR "/secret",
		    DIR "/disk") &&
	     CLIENT(out, "cryptsetup", "open", "--key-file", DIR "/secret", DIR "/disk",
		    "mlock-test") &&
	     CLIENT(out, "dd", "if=/dev/zero", "of=/dev/mapper/mlock-test", "bs=4k", "count=16",
		    "conv=fsync") &&
	     CLIENT(out, "cryptsetup", "close", "mlock-test");
	if (!ok)
		show_output(CLIENT_OUT);
	return ok;
}

static const struct program cryptsetup = {
	.name = "cryptsetup",
	.argv = cryptsetup_argv,
	.prepare = cryptsetup_prepare,
	.work = cryptsetup_work,
	.finish = cryptsetup_finish,
	/* It says nothing, and goes on without. */
	.caller = "mlock",
	.error = "ENOMEM",
};

/* chronyd: mlockall(), and a key to authenticate with. */

#define CHRONY DIR "/chrony"
#define CHRONY_CONF							\
	"port 0\ncmdport 0\nbindcmdaddress " CHRONY "/sock\npidfile " CHRONY "/pid\n" \
	"keyfile " CHRONY "/keys\nlocal stratum 8\n"

static bool chronyd_prepare(struct job *job)
{
	char keys[128];

	snprintf(keys, sizeof(keys), "1 SHA256 ASCII:%s\n", job->secret);
	return !mkdir(CHRONY, 0700) && put_file(CHRONY "/keys", 0600, keys) &&
	       put_file(CHRONY "/conf", 0600, CHRONY_CONF) &&
	       put_file(CHRONY "/conf-lock", 0600, CHRONY_CONF "lock_all\n");
}

static bool chronyd_work(struct job *job)
{
	char out[4096];

	return WAIT_FOR(CLIENT(out, "chronyc", "-h", CHRONY "/sock", "tracking") ||
			!is_running(job)) &&
	       strstr(out, "Stratum         : 8\n");
}

static const struct program chronyd = {
	.name = "chronyd",
	.argv = ARGV("chronyd", "-x", "-d", "-u", "root", "-f", CHRONY "/conf-lock"),
	.unlocked = ARGV("chronyd", "-x", "-d", "-u", "root", "-f", CHRONY "/conf"),
	.prepare = chronyd_prepare,
	.work = chronyd_work,
	/* It wants to raise the limit, and does not ask to lock memory if it may not. */
	.says = "setrlimit() failed",
	.goes_on = true,
};

/* cyclictest of rt-tests: mlockall() */

static bool cyclictest_work(struct job *job)
{
	pause_ms(2000);
	return is_running(job);
}

static bool cyclictest_finish(struct job *job)
{
	kill(job->pid, SIGTERM);
	return WAIT_FOR(!is_running(job)) && output_line(OUT, " Max:");
}

static const struct program cyclictest = {
	.name = "cyclictest",
	.argv = ARGV("cyclictest", "-m", "-p", "80", "-t", "1", "-i", "10000", "-q"),
	.unlocked = ARGV("cyclictest", "-p", "80", "-t", "1", "-i", "10000", "-q"),
	.environment = true,
	.work = cyclictest_work,
	.finish = cyclictest_finish,
	.says = "mlockall: Cannot allocate memory",
	.caller = "mlockall",
	.error = "ENOMEM",
};

/* memlockd: files that have to stay in memory; here one in tmpfs, which is swapped */

static bool memlockd_prepare(struct job *job)
{
	return secret_file(job) && put_file(DIR "/memlockd.cfg", 0644, DIR "/secret\n");
}

static bool memlockd_work(struct job *job)
{
	return WAIT_FOR(output_line(OUT, "Mapped file " DIR "/secret") || !is_running(job)) &&
	       is_running(job);
}

static const struct program memlockd = {
	.name = "memlockd",
	.argv = ARGV("memlockd", "-d", "-c", DIR "/memlockd.cfg"),
	.prepare = memlockd_prepare,
	.work = memlockd_work,
	.says = "Can't lock memory, exiting",
	.caller = "mlockall",
	.error = "ENOMEM",
};

/* vmtouch: the same; only the file is locked. */

static bool vmtouch_work(struct job *job)
{
	return WAIT_FOR(is_charged(job) || !is_running(job));
}

static const struct program vmtouch = {
	.name = "vmtouch",
	.argv = ARGV("vmtouch", "-l", DIR "/secret"),
	.unlocked = ARGV("vmtouch", "-t", DIR "/secret"),
	.prepare = secret_file,
	.work = vmtouch_work,
	.says = "FATAL: mlock: " DIR "/secret (Cannot allocate memory)",
	.caller = "mlock",
	.error = "ENOMEM",
};

/* QEMU: all memory of a guest, which has the secret */

#define QEMU_ARGV(...)							\
	ARGV("qemu-system-x86_64", "-M", "pc", "-m", "16", "-nodefaults", "-display", "none", \
	     "-accel", "tcg,tb-size=8", "-monitor", "stdio", "-device",	\
	     "loader,file=" DIR "/secret,addr=0x800000,force-raw=on", ##__VA_ARGS__)

static unsigned int count_output(const char *part)
{
	static char buf[64 * KB];
	unsigned int n = 0;

	if (!get_file(OUT, buf, sizeof(buf)))
		return 0;
	for (char *p = buf; (p = strstr(p, part)); p++)
		n++;
	return n;
}

/* The guest runs, and still has its secret. */
static bool qemu_work(struct job *job)
{
	unsigned int before = count_output("VM status: running");
	char bytes[64];

	snprintf(bytes, sizeof(bytes), "0000000000800000: 0x%02x 0x%02x 0x%02x 0x%02x",
		 job->secret[0], job->secret[1], job->secret[2], job->secret[3]);
	return send_text(job->in, "xp /4xb 0x800000\ninfo status\n") &&
	       WAIT_FOR(count_output("VM status: running") > before || !is_running(job)) &&
	       is_running(job) && count_output(bytes) > before;
}

static bool qemu_finish(struct job *job)
{
	return send_text(job->in, "quit\n");
}

static const struct program qemu = {
	.name = "qemu",
	.varies = true,
	.argv = QEMU_ARGV("-overcommit", "mem-lock=on"),
	.unlocked = QEMU_ARGV("-overcommit", "mem-lock=off"),
	.prepare = other_secret_file,
	.work = qemu_work,
	.finish = qemu_finish,
	.says = "mlockall: Cannot allocate memory",
	.caller = "mlockall",
	.error = "ENOMEM",
};

static const struct program qemu_on_fault = {
	.name = "qemu_on_fault",
	.varies = true,
	.argv = QEMU_ARGV("-overcommit", "mem-lock=on-fault"),
	.on_fault = true,
	.prepare = other_secret_file,
	.work = qemu_work,
	.finish = qemu_finish,
	.says = "mlockall: Cannot allocate memory",
	.caller = "mlockall",
	.error = "ENOMEM",
};

/* MariaDB: mlockall(MCL_CURRENT), so that what it maps later is not locked */

#define MARIADB_ARGV(...)						\
	ARGV("mariadbd", "--no-defaults", "--user=mysql", "--skip-networking",	\
	     "--skip-grant-tables", "--performance-schema=off", "--max-connections=10",	\
	     "--innodb-buffer-pool-size=8M", "--innodb-buffer-pool-size-max=8M", \
	     "--innodb-log-buffer-size=2M", "--aria-pagecache-buffer-size=1M",	\
	     "--key-buffer-size=1M", "--table-open-cache=64", "--tmpdir=" DIR,	\
	     "--socket=" DIR "/sock", "--pid-file=" DIR "/pid", "--datadir=" DIR "/mysql", \
	     ##__VA_ARGS__)

static bool mariadb_prepare(struct job *job)
{
	char out[4096];

	return CLIENT(out, "cp", "-a", "--sparse=always", "/var/lib/mysql", DIR);
}

static bool mariadb_work(struct job *job)
{
	char out[4096];

	return WAIT_FOR(output_line(OUT, "ready for connections") || !is_running(job)) &&
	       CLIENT(out, "mariadb", "--no-defaults", "-N", "-S", DIR "/sock", "-e",
		      "CREATE DATABASE IF NOT EXISTS d; CREATE TABLE IF NOT EXISTS d.t (x INT); INSERT INTO d.t VALUES (42); SELECT MAX(x) FROM d.t") &&
	       !strcmp(out, "42\n");
}

static const struct program mariadb = {
	.name = "mariadb",
	.varies = true,
	.argv = MARIADB_ARGV("--memlock"),
	.unlocked = MARIADB_ARGV("--skip-memlock"),
	.environment = true,
	.prepare = mariadb_prepare,
	.work = mariadb_work,
	.says = "Failed to lock memory. Errno: 12",
	.goes_on = true,
	.caller = "mlockall",
	.error = "ENOMEM",
};

/* fio: buffers that are registered with io_uring, which pins them, and memory beside them */

#define FIO_ARGV(...)							\
	ARGV("fio", "--thread", "--name=job", "--filename=" DIR "/data", "--readonly",	\
	     "--rw=randread", "--bs=4k", "--iodepth=8", "--time_based", "--runtime=3600", \
	     "--thinktime=10ms", "--ioengine=io_uring", ##__VA_ARGS__)

static bool fio_prepare(struct job *job)
{
	int fd = open(DIR "/data", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	bool ok = fd >= 0;

	for (unsigned int i = 0; ok && i < MB / SECRET_LEN; i++)
		ok = send_text(fd, job->secret);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* How many buffers it has registered with io_uring. */
static long registered_buffers(pid_t pid)
{
	long n, most = 0;
	char path[64];

	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
		n = find_number(path, "UserBufs:");
		if (n > most)
			most = n;
	}
	return most;
}

static bool fio_work(struct job *job)
{
	bool ok = WAIT_FOR(output_line(OUT, "Starting 1 thread") || !is_running(job));

	/* For all of the buffers to be read into */
	pause_ms(3000);
	ok = ok && is_running(job);
	if (ok && is_charged(job))
		return registered_buffers(job->pid) == 8;
	return ok;
}

static const struct program fio = {
	.name = "fio",
	.argv = FIO_ARGV("--fixedbufs", "--lockmem=1m"),
	.unlocked = FIO_ARGV("--fixedbufs=0"),
	.prepare = fio_prepare,
	.work = fio_work,
	.says = "Cannot allocate memory",
	.caller = "mlock",
	.error = "ENOMEM",
};

/* memcached: mlockall(), and a value that it keeps */

/* No thread looks at the value again and again. */
#define MEMCACHED_ARGV(...)						\
	ARGV("memcached", "-u", "root", "-s", DIR "/sock", "-m", "8", "-t", "1",	\
	     "-o", "no_lru_maintainer,no_lru_crawler", ##__VA_ARGS__)

static bool memcached_connect(struct job *job)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = DIR "/sock" };

	if (job->fd)
		return true;
	job->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!connect(job->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return true;
	close(job->fd);
	job->fd = 0;
	return false;
}

/* Sends this and reads until the reply ends with that. */
static bool converse(int fd, const char *text, const char *end)
{
	char buf[512];
	size_t len = 0, n = strlen(end);
	ssize_t got;

	if (!send_text(fd, text))
		return false;
	while (len < sizeof(buf) && (got = read(fd, buf + len, sizeof(buf) - len)) > 0) {
		len += got;
		if (len >= n && !memcmp(buf + len - n, end, n))
			return true;
	}
	return false;
}

static bool memcached_work(struct job *job)
{
	char set[128], value[128];
	bool is_new = !job->fd;

	if (!WAIT_FOR(memcached_connect(job) || !is_running(job)) || !job->fd)
		return false;
	snprintf(set, sizeof(set), "set key 0 0 %d\r\n%s\r\n", SECRET_LEN, job->secret);
	snprintf(value, sizeof(value), "%s\r\nEND\r\n", job->secret);
	return (!is_new || converse(job->fd, set, "STORED\r\n")) &&
	       converse(job->fd, "get key\r\n", value);
}

static const struct program memcached = {
	.name = "memcached",
	.argv = MEMCACHED_ARGV("-k"),
	.unlocked = MEMCACHED_ARGV(),
	.work = memcached_work,
	.says = "-k invalid, mlockall() failed: Cannot allocate memory",
	.goes_on = true,
	.caller = "mlockall",
	.error = "ENOMEM",
};

/* earlyoom: mlockall(MCL_ONFAULT) */

static bool earlyoom_work(struct job *job)
{
	return WAIT_FOR(output_line(OUT, "mem avail: ") || !is_running(job)) && is_running(job);
}

static const struct program earlyoom = {
	.name = "earlyoom",
	.argv = ARGV("earlyoom", "--dryrun", "-r", "1"),
	.on_fault = true,
	.environment = true,
	.work = earlyoom_work,
	.says = "Could not lock memory - continuing anyway: Cannot allocate memory",
	.goes_on = true,
	.caller = "mlockall",
	.error = "ENOMEM",
};

#define PROGRAM(name_) FIXTURE_VARIANT_ADD(programs, name_) { .p = &name_ }

PROGRAM(gpg);
PROGRAM(cryptsetup);
PROGRAM(chronyd);
PROGRAM(cyclictest);
PROGRAM(memlockd);
PROGRAM(vmtouch);
PROGRAM(qemu);
PROGRAM(qemu_on_fault);
PROGRAM(mariadb);
PROGRAM(fio);
PROGRAM(memcached);
PROGRAM(earlyoom);

/*
 * Debian's root file system, with what the kernel has in it
 */

static void must(bool ok, const char *what)
{
	if (!ok)
		ksft_exit_fail_msg("%s: %s\n", what, strerror(errno));
}

static void enter_debian(void)
{
	static const char *const kept[] = { "/dev", "/proc", "/sys" };
	char path[64];

	/* What is mounted goes with this program. */
	must(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL),
	     "no mount namespace");
	must(!mkdir(ROOT, 0755) || errno == EEXIST, "cannot make " ROOT);
	/* It may be a part of the initramfs, for a machine that has no 9P. */
	if (!access("/debian/usr", F_OK))
		must(!mount("/debian", ROOT, NULL, MS_BIND, NULL), "/debian");
	else
		must(!mount("debian", ROOT, "9p", MS_RDONLY,
			    "trans=virtio,version=9p2000.L,cache=loose,msize=262144"),
		     "no root file system of Debian");
	for (unsigned int i = 0; i < ARRAY_SIZE(kept); i++) {
		snprintf(path, sizeof(path), ROOT "%s", kept[i]);
		must(!mount(kept[i], path, NULL, MS_BIND | MS_REC, NULL), kept[i]);
	}
	must(!mount("tmpfs", ROOT "/tmp", "tmpfs", 0, "mode=1777"), "/tmp");
	must(!mount("tmpfs", ROOT "/run", "tmpfs", 0, "mode=755"), "/run");
	if (!access("/mlock-why", X_OK)) {
		must(put_file(ROOT WHY, 0755, ""), WHY);
		must(!mount("/mlock-why", ROOT WHY, NULL, MS_BIND, NULL), WHY);
	}
	must(!chroot(ROOT) && !chdir("/"), "chroot");
}

int main(int argc, char **argv)
{
	if (geteuid())
		ksft_exit_skip("needs root\n");
	umask(0);
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	signal(SIGPIPE, SIG_IGN);
	enter_debian();
	/* "mlock-programs run COMMAND": to look at things by hand */
	if (argc > 2 && !strcmp(argv[1], "run")) {
		execvp(argv[2], argv + 2);
		ksft_exit_fail_msg("%s: %s\n", argv[2], strerror(errno));
	}
	return test_harness_run(argc, argv);
}
