// SPDX-License-Identifier: GPL-2.0
/*
 * mlock-why: why a request to lock memory was refused, and who has memory locked
 *
 * mlock-why -- COMMAND, -p PID and -a say in plain words what the trace events of
 * mlock tell (include/trace/events/mlock.h), which needs a kernel that has them.
 * --report PID and --system read /proc, and work on any kernel.
 *
 * See mlock-why(1) and Documentation/admin-guide/mm/mlock.rst.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Exit status of mlock-why itself, as of env(1) and others that run a command */
#define EXIT_OURS	125
#define EXIT_CANNOT_RUN	126
#define EXIT_NOT_FOUND	127

#define POLL_MS		200
#define SHM_LOCKED_MODE	02000

static const char *const tracefs_dirs[] = {
	"/sys/kernel/tracing",
	"/sys/kernel/debug/tracing",
};

static bool json;
static FILE *out;
static unsigned long page_size;
static volatile sig_atomic_t stopped;
static char instance[64];
static int trace_pipe = -1;

static void remove_instance(void);

static __attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...)
{
	va_list ap;

	fputs("mlock-why: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	remove_instance();
	exit(EXIT_OURS);
}

static void usage(FILE *f)
{
	fputs("Usage: mlock-why [OPTION...] -- COMMAND [ARGUMENT...]\n"
	      "       mlock-why [OPTION...] -p PID | -a\n"
	      "       mlock-why [OPTION...] --report PID | --system\n"
	      "Say why memory could not be locked, and who has memory locked.\n"
	      "\n"
	      "  -- COMMAND          run COMMAND and explain what is refused to it\n"
	      "  -p, --pid PID       watch a process and what it starts\n"
	      "  -a, --all           watch all processes\n"
	      "      --report PID    what a process has locked, from /proc\n"
	      "      --system        what all processes have locked, from /proc\n"
	      "  -j, --json          one JSON object a line\n"
	      "  -o, --output FILE   write to FILE (default: stderr with COMMAND, else stdout)\n"
	      "  -u, --user USER     run COMMAND as USER, by name or number\n"
	      "  -h, --help          this text\n", f);
}

/*
 * Text
 */

/* Bytes in the largest unit that divides them. */
static const char *size_text(unsigned long bytes)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	static char bufs[8][32];
	static unsigned int next;
	char *buf = bufs[next++ % 8];
	unsigned int unit = 0;

	if (!bytes || bytes % 1024) {
		snprintf(buf, sizeof(bufs[0]), "%lu byte%s", bytes, bytes == 1 ? "" : "s");
		if (!bytes)
			strcpy(buf, "0 KiB");
		return buf;
	}
	bytes /= 1024;
	while (bytes % 1024 == 0 && unit < 3) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, sizeof(bufs[0]), "%lu %s", bytes, units[unit]);
	return buf;
}

static const char *limit_text(unsigned long limit)
{
	return limit == ULONG_MAX ? "unlimited" : size_text(limit);
}

static unsigned long add(unsigned long a, unsigned long b)
{
	return a + b < a ? ULONG_MAX : a + b;
}

static unsigned long pages_to_bytes(unsigned long pages)
{
	return pages > ULONG_MAX / page_size ? ULONG_MAX : pages * page_size;
}

/*
 * The length of the UTF-8 character at @s; 0 for a control character, and for what
 * is not UTF-8. A process may call itself and its files what it likes.
 */
static size_t printable(const char *s)
{
	static const unsigned int least[] = { 0, 0, 0xa0, 0x800, 0x10000 };
	unsigned char c = *s;
	unsigned int val;
	size_t n, i;

	if (c < 0x80)
		return c >= 0x20 && c != 0x7f;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
	val = c & (0x7f >> n);
	for (i = 1; i < n; i++) {
		c = s[i];
		if ((c & 0xc0) != 0x80)
			return 0;
		val = val << 6 | (c & 0x3f);
	}
	return val < least[n] || (val >= 0xd800 && val < 0xe000) || val > 0x10ffff ? 0 : n;
}

/* A newline is \012, as in /proc/PID/maps; what is a \ in @special, as well. */
static void put_escaped(const char *name, const char *special)
{
	size_t n;

	for (; *name; name += n ?: 1) {
		n = strchr(special, *name) ? 0 : printable(name);
		if (n)
			fwrite(name, 1, n, out);
		else
			fprintf(out, "\\%03o", (unsigned char)*name);
	}
}

static void put_name(const char *name)
{
	put_escaped(name, "\\");
}

static void json_string(const char *key, const char *val)
{
	size_t n;

	fprintf(out, "\"%s\":\"", key);
	for (; *val; val += n ?: 1) {
		n = printable(val);
		if (*val == '"' || *val == '\\')
			fputc('\\', out);
		if (n)
			fwrite(val, 1, n, out);
		else
			fprintf(out, "\\u%04x", (unsigned char)*val);
	}
	fputc('"', out);
}

static void json_number(const char *key, unsigned long val, bool is_known)
{
	if (is_known)
		fprintf(out, "\"%s\":%lu", key, val);
	else
		fprintf(out, "\"%s\":null", key);
}

/*
 * Files of /proc
 */

/* The number behind @key at the start of a line, in bytes if it is in kB; or @none. */
static unsigned long file_number(const char *path, const char *key, unsigned long none)
{
	char line[1024], unit[8];
	FILE *f = fopen(path, "re");
	unsigned long val = none, got;
	int n;

	if (!f)
		return none;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)))
			continue;
		n = sscanf(line + strlen(key), "%lu %7s", &got, unit);
		if (n >= 1)
			val = n == 2 && !strcmp(unit, "kB") ? got * 1024 : got;
		break;
	}
	fclose(f);
	return val;
}

/* Without this, each process would seem to be missing, and each number 0. */
static void want_proc(void)
{
	if (access("/proc/self/status", R_OK) || access("/proc/meminfo", R_OK))
		die("cannot read /proc: %s: mount -t proc proc /proc, as root",
		    strerror(errno));
}

static void first_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(buf, size, f))
		snprintf(buf, size, "?");
	if (f)
		fclose(f);
	buf[strcspn(buf, "\n")] = '\0';
}

#define COMM_SIZE	64

/* The name of a process, which may have more lines than one. */
static void read_comm(pid_t pid, char *buf, size_t size)
{
	char path[64];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (f) {
		n = fread(buf, 1, size - 1, f);
		fclose(f);
	}
	if (!n)
		buf[n++] = '?';
	else if (buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
}

/* As in include/uapi/linux/nsfs.h, which a C library may not have. */
#define INITIAL_PID_NS	0xEFFFFFFC

/* Whether the events number processes otherwise than /proc and fork() do here. */
static bool in_pid_namespace(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino != INITIAL_PID_NS;
}

static void want_initial_pids(void)
{
	if (in_pid_namespace())
		die("in this PID namespace, processes have other numbers than in the events: run it outside, or use -a and look for the name");
}

static bool parse_pid(const char *str, pid_t *pid)
{
	char *end;
	long val;

	errno = 0;
	val = strtol(str, &end, 10);
	if (errno || *end || end == str || val <= 0 || val > INT_MAX)
		return false;
	*pid = val;
	return true;
}

/*
 * What one event says
 */

struct refusal {
	double time;
	int tid;
	int tgid;
	int owner;	/* of the memory; 0 if the kernel cannot tell */
	char caller[32];
	char reason[32];
	char cause[32];
	char state[32];
	char comm[32];
	int error;
	unsigned long start;
	unsigned long len;
	unsigned long locked;
	unsigned long total;
	unsigned long limit;
	unsigned long at;
	int map_count;
};

/* Of each process, the last mlockall() that we have seen. */
static struct {
	int tgid;
	double time;
} futures[1024];
static unsigned int nr_futures;

static void remember_future(int tgid, double time)
{
	unsigned int i;

	for (i = 0; i < nr_futures && futures[i].tgid != tgid; i++)
		;
	if (i == nr_futures) {
		/* The oldest one is forgotten if there are too many. */
		if (nr_futures < ARRAY_SIZE(futures))
			nr_futures++;
		else
			memmove(futures, futures + 1, sizeof(futures) - sizeof(futures[0]));
		i = nr_futures - 1;
	}
	futures[i].tgid = tgid;
	futures[i].time = time;
}

static const char *error_name(int error)
{
	switch (-error) {
	case EPERM:
		return "EPERM";
	case ENOMEM:
		return "ENOMEM";
	case EAGAIN:
		return "EAGAIN";
	case EINVAL:
		return "EINVAL";
	case EINTR:
		return "EINTR";
	default:
		return strerror(-error);
	}
}

static bool is(const char *a, const char *b)
{
	return !strcmp(a, b);
}

struct text {
	char buf[1024];
	size_t len;
};

static __attribute__((format(printf, 2, 3))) void say(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->len, sizeof(t->buf) - t->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len = t->len + n < sizeof(t->buf) ? t->len + n : sizeof(t->buf) - 1;
}

/* Whether mlockall(MCL_FUTURE) is in effect. */
static bool is_future(const struct refusal *r)
{
	return strstr(r->state, "future");
}

/* What was called, as it would stand in the program. */
static void say_call(struct text *t, const struct refusal *r)
{
	const char *len = size_text(r->len);

	if (is(r->caller, "mlock2") && is(r->reason, "bad_flags"))
		say(t, "mlock2(%s)", len);
	else if (is(r->caller, "mlock2"))
		say(t, "mlock2(%s, MLOCK_ONFAULT)", len);
	else if (is(r->caller, "mlockall") || is(r->caller, "munlockall"))
		say(t, "%s()", r->caller);
	else if (is(r->caller, "mmap"))
		say(t, "mmap(%s%s)", len,
		    is_future(r) && !is(r->reason, "limit_zero") ? "" : ", MAP_LOCKED");
	else if (is(r->caller, "brk"))
		say(t, "brk(%s more)", len);
	else if (is(r->caller, "mremap"))
		say(t, "mremap(%s more)", len);
	else if (is(r->caller, "stack"))
		say(t, "growing a locked stack by %s", len);
	else if (is(r->caller, "shm_lock"))
		say(t, "shmctl(SHM_LOCK) of %s", len);
	else if (is(r->caller, "shm_hugetlb"))
		say(t, "shmget(%s, SHM_HUGETLB)", len);
	else if (is(r->caller, "account_locked_vm"))
		say(t, "pinning %s for a device", len);
	else if (is(r->caller, "can_do_mlock"))
		say(t, "pinning memory for a device");
	else
		say(t, "%s(%s)", r->caller, len);
}

/* Whether the length is a negative number: the limit is compared before that is seen. */
static bool wraps(const struct refusal *r)
{
	return r->len > LONG_MAX || r->start + r->len < r->start;
}

static void say_limit(struct text *t, const struct refusal *r)
{
	unsigned long locked = pages_to_bytes(r->locked);
	unsigned long total = pages_to_bytes(r->total);

	if (is(r->reason, "over_user_limit") && total <= r->limit) {
		say(t, "the user has %s of shared memory locked and needs %s; RLIMIT_MEMLOCK (%s) allows that, but the limit that the user namespace was created with does not: create it, or start the container, with a higher limit",
		    size_text(locked), size_text(total), limit_text(r->limit));
		return;
	}
	say(t, "RLIMIT_MEMLOCK");
	/* A driver pins within the owner's limit. A stack grows within that of who writes to it. */
	if (r->owner != r->tgid && !is(r->caller, "account_locked_vm"))
		say(t, " of pid %d", r->tgid);
	else if (!r->owner)
		say(t, " of that process");
	else if (r->owner != r->tgid)
		say(t, " of pid %d", r->owner);
	if (is(r->reason, "limit_zero"))
		say(t, " is 0");
	else if (is(r->reason, "over_user_limit"))
		say(t, " is %s and the user has %s of shared memory locked; needs %s",
		    size_text(r->limit), size_text(locked), size_text(total));
	else if (is(r->caller, "mlockall"))
		say(t, " is %s and %s are mapped, all of which count",
		    size_text(r->limit), size_text(r->len));
	else
		say(t, " is %s and %s are locked; needs %s",
		    size_text(r->limit), size_text(locked), size_text(total));
	if (is(r->caller, "stack") && r->owner == r->tgid)
		say(t, ", and the program gets SIGSEGV");

	/* MAP_LOCKED alone is refused for a limit of 0. */
	if (is_future(r) && !is(r->reason, "limit_zero") &&
	    (is(r->caller, "mmap") || is(r->caller, "brk"))) {
		unsigned int i;

		for (i = 0; i < nr_futures && futures[i].tgid != r->owner; i++)
			;
		say(t, ", because all that it maps%s is locked since it called mlockall(MCL_FUTURE), ",
		    is(r->caller, "mmap") ? " (also by shmat() and io_setup())" : "");
		if (i < nr_futures)
			say(t, "%.3f s before", r->time - futures[i].time);
		else
			say(t, "before it was watched");
	}
	say(t, ": raise it (ulimit -l, LimitMEMLOCK=), or give CAP_IPC_LOCK");
	if (strstr(r->state, "ns_cap"))
		say(t, " in the initial user namespace; that of its own namespace does not count");
}

#define UNKNOWN	"this mlock-why does not know that: build the one of the running kernel"

static void say_populate(struct text *t, const struct refusal *r)
{
	/* When the kernel looked for the page, it was there. */
	if (!r->at) {
		say(t, "the range is locked, but a page of it could not be faulted in; which one, is not known any more: try again");
		return;
	}
	say(t, "the range is locked, but ");
	if (r->at == r->start)
		say(t, "its first page could not be faulted in: ");
	else
		say(t, "the page at %#lx, %s into it, could not be faulted in: ", r->at,
		    size_text(r->at - r->start));
	if (is(r->cause, "no_access"))
		say(t, "it may not be accessed (PROT_NONE, or a protection key): leave it out, or use MLOCK_ONFAULT");
	else if (is(r->cause, "past_eof"))
		say(t, "it is past the end of the file: lock no more than the file has, or use MLOCK_ONFAULT");
	else if (is(r->cause, "guard"))
		say(t, "it is in a guard region (MADV_GUARD_INSTALL): leave it out, or use MLOCK_ONFAULT");
	else if (is(r->cause, "secretmem"))
		say(t, "it is secret memory (memfd_secret), which never leaves memory, locked or not: leave it out");
	else if (is(r->cause, "no_memory"))
		say(t, "there was no memory for it, in the machine or in the memory cgroup: lock less, or raise memory.max");
	else if (is(r->cause, "sigbus"))
		say(t, "what is mapped there could not supply it: look for an I/O error (dmesg), a full file system, no free huge page (vm.nr_hugepages, hugetlb.*.max of the cgroup), or a program that handles its userfaults");
	else if (is(r->cause, "unmapped"))
		say(t, "another thread has unmapped it meanwhile: the program has to keep it mapped");
	else
		say(t, "%s: " UNKNOWN, r->cause);
}

static void say_why(struct text *t, const struct refusal *r)
{
	char line[64];

	if (is(r->reason, "range_wraps") || (is(r->reason, "over_limit") && wraps(r))) {
		say(t, "the range from %#lx reaches past the end of all addresses: the program has to give another length, and not a negative one",
		    r->start);
	} else if (is(r->reason, "limit_zero") || is(r->reason, "over_limit") ||
		   is(r->reason, "over_user_limit")) {
		say_limit(t, r);
	} else if (is(r->reason, "not_permitted") && is(r->caller, "shm_lock")) {
		say(t, "only the owner and the creator of the segment may lock it (ipcs -m -c), and CAP_IPC_LOCK in the user namespace of the IPC namespace: run it as one of the two, or give that");
	} else if (is(r->reason, "not_permitted")) {
		first_line("/proc/sys/vm/hugetlb_shm_group", line, sizeof(line));
		say(t, "this is for CAP_IPC_LOCK and for members of the group vm.hugetlb_shm_group, which is %s, whatever RLIMIT_MEMLOCK is: join or set the group, or use memfd_create(MFD_HUGETLB)",
		    line);
	} else if (is(r->reason, "hole")) {
		say(t, "nothing is mapped at %#lx, %s into the range%s: the whole range has to be mapped",
		    r->at, size_text(r->at - r->start),
		    is(r->caller, "munlock") ? "; what comes before that is unlocked" :
		    "; what comes before that is locked now");
	} else if (is(r->reason, "not_mapped")) {
		say(t, "nothing is mapped at %#lx, where the range starts: the program has to give another address, or to unmap that later",
		    r->at);
	} else if (is(r->reason, "bad_flags") && is(r->caller, "mlockall")) {
		say(t, "the flags must have MCL_CURRENT, MCL_FUTURE or both, and may have MCL_ONFAULT beside them");
	} else if (is(r->reason, "bad_flags")) {
		say(t, "the only flag is MLOCK_ONFAULT: give that, or 0");
	} else if (is(r->reason, "too_many_vmas")) {
		first_line("/proc/sys/vm/max_map_count", line, sizeof(line));
		say(t, "the process has %d mappings and vm.max_map_count is %s, and a mapping had to be split at %#lx: raise vm.max_map_count, or lock whole mappings",
		    r->map_count, line, r->at);
	} else if (is(r->reason, "no_memory_for_vma")) {
		say(t, "the kernel had no memory to split the mapping at %#lx, in the machine or in the memory cgroup: free some, or raise memory.max",
		    r->at);
	} else if (is(r->reason, "populate_failed")) {
		say_populate(t, r);
	} else if (is(r->reason, "killed")) {
		say(t, "the process was killed while it waited: if nobody did that, memory may have run out (dmesg, memory.max)");
	} else {
		say(t, "%s: " UNKNOWN, r->reason);
	}
}

static void report_refusal(const struct refusal *r)
{
	struct text why = { .len = 0 }, call = { .len = 0 };
	char owner[COMM_SIZE];

	say_call(&call, r);
	say_why(&why, r);
	if (!json) {
		put_name(r->comm);
		fprintf(out, " (pid %d)", r->tgid);
		if (!r->owner) {
			fputs(", in the memory of another process", out);
		} else if (r->owner != r->tgid) {
			fputs(", in the memory of ", out);
			if (in_pid_namespace())
				strcpy(owner, "?");
			else
				read_comm(r->owner, owner, sizeof(owner));
			put_name(owner);
			fprintf(out, " (pid %d)", r->owner);
		}
		fprintf(out, ": %s = %s: %s\n", call.buf, error_name(r->error), why.buf);
		fflush(out);
		return;
	}
	fprintf(out, "{\"event\":\"refused\",\"time\":%.6f,", r->time);
	json_string("comm", r->comm);
	fprintf(out, ",\"pid\":%d,\"tid\":%d,", r->tgid, r->tid);
	json_number("owner", r->owner, r->owner);
	fputc(',', out);
	json_string("caller", r->caller);
	fputc(',', out);
	json_string("reason", r->reason);
	fputc(',', out);
	json_string("errno", error_name(r->error));
	fprintf(out, ",\"start\":%lu,\"len\":%lu,\"locked\":%lu,\"total\":%lu,", r->start,
		r->len, pages_to_bytes(r->locked), pages_to_bytes(r->total));
	json_number("limit", r->limit, r->limit != ULONG_MAX);
	fprintf(out, ",\"at\":%lu,", r->at);
	json_string("cause", r->cause);
	fprintf(out, ",\"map_count\":%d,", r->map_count);
	json_string("state", r->state);
	fputc(',', out);
	json_string("call", call.buf);
	fputc(',', out);
	json_string("why", why.buf);
	fputs("}\n", out);
	fflush(out);
}

/*
 * Lines of trace_pipe: "COMM-TID [CPU] TIME: EVENT: KEY=VALUE ..."
 *
 * A process chooses its COMM, up to 15 characters of any kind: it may look like the
 * start of what follows, or end the line. So the head is looked for from where COMM
 * ends at the latest, and only fields are read that come before a COMM.
 */
#define COMM_WIDTH	16

/* The value of @key, up to the next blank. */
static bool field(const char *text, const char *key, char *val, size_t size)
{
	size_t n = strlen(key);
	const char *p;

	for (p = text; p; p = strchr(p, ' ')) {
		p += *p == ' ';
		if (!strncmp(p, key, n) && p[n] == '=') {
			snprintf(val, size, "%.*s", (int)strcspn(p + n + 1, " "), p + n + 1);
			return true;
		}
	}
	snprintf(val, size, "?");
	return false;
}

static unsigned long number(const char *text, const char *key)
{
	char val[32];

	return field(text, key, val, sizeof(val)) ? strtoul(val, NULL, 0) : 0;
}

struct head {
	int tid;
	double time;
	char event[32];
	char *fields;
};

static bool parse_head(char *line, struct head *h)
{
	size_t i = strnlen(line, COMM_WIDTH) + 1;
	int n = 0;

	while (i-- && !n) {
		if (line[i] == '-' && isdigit((unsigned char)line[i + 1]))
			sscanf(line + i, "-%d [%*d] %lf: %31[a-z_]: %n", &h->tid, &h->time,
			       h->event, &n);
		h->fields = line + i + n;
	}
	return n;
}

/*
 * The threads that are watched; task_newtask tells of new ones. The kernel could do
 * this (set_event_pid), but with probes in the scheduler.
 */
#define MAX_PIDS	(4 << 20)
static unsigned char watched[MAX_PIDS / 8];
static bool watch_all;

static void watch_task(int tid, bool on)
{
	unsigned char bit = 1 << tid % 8;

	if (tid <= 0 || tid >= MAX_PIDS)
		return;
	if (on)
		watched[tid / 8] |= bit;
	else
		watched[tid / 8] &= ~bit;
}

static bool is_watched(int tid)
{
	return watch_all ||
	       (tid > 0 && tid < MAX_PIDS && watched[tid / 8] & 1 << tid % 8);
}

static unsigned long nr_refused;

static void parse_refused(const struct head *h)
{
	struct refusal r = { .time = h->time, .tid = h->tid };
	char *fields = h->fields, *comm = strstr(fields, " comm="), val[32];

	if (comm)
		*comm = '\0';
	snprintf(r.comm, sizeof(r.comm), "%s", comm ? comm + 6 : "?");
	r.tgid = number(fields, "tgid");
	/* An older kernel has neither this nor the total. */
	r.owner = field(fields, "owner", val, sizeof(val)) ? atoi(val) : r.tgid;
	if (!is_watched(r.tid) && !is_watched(r.owner))
		return;
	field(fields, "caller", r.caller, sizeof(r.caller));
	field(fields, "reason", r.reason, sizeof(r.reason));
	field(fields, "cause", r.cause, sizeof(r.cause));
	field(fields, "state", r.state, sizeof(r.state));
	r.error = (int)number(fields, "error");
	r.start = number(fields, "start");
	r.len = number(fields, "len");
	r.locked = number(fields, "locked");
	if (field(fields, "total", val, sizeof(val)))
		r.total = strtoul(val, NULL, 0);
	else
		r.total = add(r.locked, r.len / page_size + !!(r.len % page_size));
	r.limit = number(fields, "limit");
	r.at = number(fields, "at");
	r.map_count = number(fields, "map_count");
	nr_refused++;
	report_refusal(&r);
}

static bool lost_events;

/* Such a line is longer than a name, so no process can write it. */
static bool parse_lost(const char *line)
{
	unsigned long nr = 0;
	int cpu, n = 0;

	if (sscanf(line, "CPU:%d [LOST %lu EVENTS]%n", &cpu, &nr, &n) < 2 &&
	    sscanf(line, "CPU:%d [LOST EVENTS]%n", &cpu, &n) < 1)
		return false;
	if (!n || line[n])
		return false;
	lost_events = true;
	if (json) {
		fprintf(out, "{\"event\":\"lost\",\"cpu\":%d,", cpu);
		json_number("events", nr, nr);
		fputs("}\n", out);
		fflush(out);
	} else if (nr) {
		fprintf(stderr, "mlock-why: too many at once: %lu events of CPU %d are lost\n",
			nr, cpu);
	} else {
		fprintf(stderr, "mlock-why: too many at once: events of CPU %d are lost\n", cpu);
	}
	return true;
}

static void parse_line(char *line)
{
	struct head h = { .tid = 0 };
	char flags[64];

	if (parse_lost(line) || !parse_head(line, &h))
		return;
	if (is(h.event, "mlock_refused")) {
		parse_refused(&h);
	} else if (is(h.event, "mlockall")) {
		if (field(h.fields, "flags", flags, sizeof(flags)) && strstr(flags, "MCL_FUTURE"))
			remember_future(number(h.fields, "tgid"), h.time);
	} else if (is(h.event, "task_newtask")) {
		/* Not any more if it has the number of one that has ended. */
		watch_task(number(h.fields, "pid"), is_watched(h.tid));
	}
}

/* Reads what there is; false at the end. */
static bool read_events(void)
{
	static char buf[64 << 10];
	static size_t len;
	ssize_t got = read(trace_pipe, buf + len, sizeof(buf) - 1 - len);
	char *line = buf, *end;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (!got)
		return false;
	len += got;
	buf[len] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		parse_line(line);
		line = end + 1;
	}
	len -= line - buf;
	memmove(buf, line, len);
	/* No line is that long. */
	if (len == sizeof(buf) - 1)
		len = 0;
	return true;
}

static void drain_events(void)
{
	struct pollfd pfd = { .fd = trace_pipe, .events = POLLIN };

	while (poll(&pfd, 1, 0) > 0 && pfd.revents & POLLIN && read_events())
		;
}

/*
 * tracefs
 */

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[192];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

static void must_write(const char *name, const char *text)
{
	int err = write_file(instance, name, text);

	if (err)
		die("%s/%s: %s", instance, name, strerror(-err));
}

static void remove_instance(void)
{
	if (!*instance)
		return;
	/* While it is open, the instance is busy. */
	if (trace_pipe >= 0)
		close(trace_pipe);
	trace_pipe = -1;
	write_file(instance, "events/enable", "0");
	if (rmdir(instance) && errno != ENOENT)
		fprintf(stderr, "mlock-why: %s stays behind: %s\n", instance, strerror(errno));
	*instance = '\0';
}

static const struct {
	const char *name;
	const char *value;
} trace_options[] = {
	{ "context-info", "1" }, { "latency-format", "0" }, { "irq-info", "0" },
	{ "record-tgid", "0" }, { "raw", "0" }, { "hex", "0" }, { "bin", "0" },
	{ "fields", "0" },
};

/* Opens trace_pipe of an instance of our own, with no event on yet. */
static void open_trace(void)
{
	const char *dir = NULL;
	int err = EEXIST;
	char path[128];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tracefs_dirs) && !dir; i++) {
		snprintf(path, sizeof(path), "%s/events", tracefs_dirs[i]);
		if (!access(path, F_OK))
			dir = tracefs_dirs[i];
		else if (errno == EACCES)
			die("%s: %s: watching needs root", path, strerror(errno));
	}
	if (!dir)
		die("tracefs is not at %s: mount -t tracefs tracefs %s, as root; the kernel needs CONFIG_FTRACE. --report and --system work without",
		    tracefs_dirs[0], tracefs_dirs[0]);

	snprintf(path, sizeof(path), "%s/events/mlock/mlock_refused", dir);
	if (access(path, F_OK)) {
		if (errno == EACCES)
			die("%s: %s: watching needs root", path, strerror(errno));
		die("this kernel has no events for mlock: it needs CONFIG_MLOCK2=y and CONFIG_TRACEPOINTS=y. --report and --system work without");
	}

	/* The one that was before us with our number may have been killed. */
	for (i = 0; i < 100 && err == EEXIST; i++) {
		snprintf(instance, sizeof(instance), "%s/instances/mlock-why-%d-%u", dir,
			 getpid(), i);
		err = mkdir(instance, 0700) ? errno : 0;
	}
	if (err) {
		strcpy(path, instance);
		*instance = '\0';
		die("%s: %s%s", path, strerror(err),
		    err == EACCES || err == EPERM ? ": watching needs root" : "");
	}

	/* An instance begins with the options of the whole, which may change its lines. */
	for (i = 0; i < ARRAY_SIZE(trace_options); i++) {
		snprintf(path, sizeof(path), "options/%s", trace_options[i].name);
		must_write(path, trace_options[i].value);
	}

	snprintf(path, sizeof(path), "%s/trace_pipe", instance);
	trace_pipe = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (trace_pipe < 0)
		die("%s: %s", path, strerror(errno));
}

static void start_trace(void)
{
	if (!watch_all)
		must_write("events/task/task_newtask/enable", "1");
	must_write("events/mlock/mlock_refused/enable", "1");
	must_write("events/mlock/mlockall/enable", "1");
}

static void stop(int sig)
{
	stopped = sig;
}

/* The command that runs, which is told to end as we are; then we do. */
static pid_t command;

static void pass_on(int signal)
{
	kill(command, signal);
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = stop };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGQUIT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	/* Who reads the output has gone: there is nothing to watch for any more. */
	sigaction(SIGPIPE, &sa, NULL);
	/* The output is as large as it may be. */
	sigaction(SIGXFSZ, &sa, NULL);
}

static void wait_for_events(void)
{
	struct pollfd pfd = { .fd = trace_pipe, .events = POLLIN };

	poll(&pfd, 1, POLL_MS);
	read_events();
}

static void end_trace(void)
{
	/* Who is refused without end must not keep us from our end. */
	write_file(instance, "tracing_on", "0");
	drain_events();
	remove_instance();
}

/*
 * mlock-why -p PID, -a
 */

static int watch(pid_t pid)
{
	char path[64];

	if (pid) {
		want_initial_pids();
		snprintf(path, sizeof(path), "/proc/%d/task", pid);
		if (access(path, F_OK))
			die("there is no process %d", pid);
	}
	catch_signals();
	watch_all = !pid;
	open_trace();
	/* Before the threads are listed, so that none is missed. */
	start_trace();
	if (pid) {
		DIR *dir = opendir(path);
		struct dirent *d;
		pid_t tid;

		while (dir && (d = readdir(dir))) {
			if (parse_pid(d->d_name, &tid))
				watch_task(tid, true);
		}
		if (dir)
			closedir(dir);
	}
	if (!json)
		fprintf(stderr, "mlock-why: watching%s; end with ^C\n",
			pid ? " the process" : "");
	/* Nobody needs what cannot be written. */
	while (!stopped && !ferror(out) && (!pid || (is_watched(pid) && !access(path, F_OK))))
		wait_for_events();
	end_trace();
	return 0;
}

/*
 * mlock-why -- COMMAND
 */

struct user {
	uid_t uid;
	gid_t gid;
	gid_t groups[1024];
	size_t nr_groups;
};

/*
 * As initgroups() has them: the user's own group, and those that /etc/group has the
 * user in; the group of shm_hugetlb may be one.
 */
static void find_groups(struct user *u, const char *name)
{
	FILE *f = fopen("/etc/group", "re");
	struct group *gr;
	char **member;

	u->groups[u->nr_groups++] = u->gid;
	while (f && (gr = fgetgrent(f))) {
		for (member = gr->gr_mem; *member; member++) {
			if (is(*member, name) && gr->gr_gid != u->gid &&
			    u->nr_groups < ARRAY_SIZE(u->groups))
				u->groups[u->nr_groups++] = gr->gr_gid;
		}
	}
	if (f)
		fclose(f);
}

/*
 * @name is a number, or a name in /etc/passwd. That is read here, since the functions
 * of the C library which also ask LDAP and others want a program that is not static.
 */
static void find_user(struct user *u, const char *name)
{
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd *pw = NULL;
	unsigned long id;
	bool number;

	/* Of a name that is empty, or no number that a user can have, nothing is made. */
	number = *name && name[strspn(name, "0123456789")] == '\0';
	errno = 0;
	id = number ? strtoul(name, NULL, 10) : 0;
	if (number && (errno || id >= (uid_t)-1))
		die("'%s' is no number of a user", name);
	u->uid = id;
	u->gid = id;
	while (f && (pw = fgetpwent(f))) {
		if (number ? pw->pw_uid == id : is(pw->pw_name, name))
			break;
	}
	if (pw) {
		u->uid = pw->pw_uid;
		u->gid = pw->pw_gid;
		find_groups(u, pw->pw_name);
	} else if (!number) {
		die("there is no user '%s' in /etc/passwd: give a number", name);
	}
	if (f)
		fclose(f);
}

static __attribute__((noreturn)) void run_command(char **argv, int go, const struct user *u)
{
	char byte;

	/* Not before it is watched; not at all if that failed. */
	if (read(go, &byte, 1) != 1)
		_exit(EXIT_OURS);
	if (u && (setgroups(u->nr_groups, u->groups) || setresgid(u->gid, u->gid, u->gid) ||
		  setresuid(u->uid, u->uid, u->uid))) {
		fprintf(stderr, "mlock-why: cannot become user %u: %s\n", u->uid,
			strerror(errno));
		_exit(EXIT_OURS);
	}
	execvp(argv[0], argv);
	fprintf(stderr, "mlock-why: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

/* Until the command has ended, and all that it has left running. */
static int wait_for_command(void)
{
	int status = 0, ended, waits = 0;
	bool has_ended = false;
	pid_t pid;

	while (!stopped && (pid = waitpid(-1, &ended, WNOHANG)) >= 0) {
		if (pid == command) {
			status = ended;
			has_ended = true;
			catch_signals();
		} else if (!pid) {
			/* Not of what ends at the same time. */
			if (has_ended && waits++ == 1 && !json)
				fprintf(stderr, "mlock-why: the command has ended, and what it started runs on; end with ^C\n");
			wait_for_events();
		}
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int watch_command(char **argv, const char *name)
{
	static struct user user;
	sighandler_t sigchld;
	int go[2], status;

	want_initial_pids();
	if (name)
		find_user(&user, name);
	/* Whoever started us may ignore it, and then there is no status to wait for. */
	sigchld = signal(SIGCHLD, SIG_DFL);
	/* A daemon, of which the parent has ended, becomes a child of ours. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (pipe2(go, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	fflush(NULL);
	/* Before there is an instance of tracefs, which it would keep busy. */
	command = fork();
	if (command < 0)
		die("fork: %s", strerror(errno));
	if (!command) {
		close(go[1]);
		signal(SIGCHLD, sigchld);
		run_command(argv, go[0], name ? &user : NULL);
	}
	close(go[0]);

	/* What the terminal sends is for the command; its end is ours. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	open_trace();
	watch_task(command, true);
	start_trace();
	if (write(go[1], "", 1) != 1)
		die("cannot start the command: %s", strerror(errno));
	close(go[1]);

	status = wait_for_command();
	end_trace();
	/* Nor was anything asked for if the command has not run, as these may mean. */
	if (!json && !nr_refused && !lost_events &&
	    (status < EXIT_OURS || status > EXIT_NOT_FOUND))
		fprintf(out, "mlock-why: nothing was refused\n");
	return status;
}

/*
 * mlock-why --report PID, --system
 */

struct mapping {
	unsigned long start;
	unsigned long end;
	unsigned long size;
	unsigned long rss;
	unsigned long pss;
	unsigned long locked;
	bool lo;
	bool lf;
	char *name;
};

struct process {
	pid_t pid;
	char comm[COMM_SIZE];
	unsigned long limit;
	unsigned long vmlck;
	unsigned long vmpin;
	/* In its user namespace */
	bool ipc_lock;
	/* Sums over the mappings that are locked */
	unsigned long size;
	unsigned long rss;
	unsigned long locked;
	struct mapping *maps;
	size_t nr_maps;
	/* The share of secret memory that is not locked, and in no other sum */
	unsigned long secret;
	/* Its mappings may not be read: nothing is known of the last six. */
	bool hidden;
};

#define SECRETMEM	"/secretmem"

static bool is_secretmem(const char *name)
{
	return !strncmp(name, SECRETMEM, strlen(SECRETMEM));
}

static int by_size(const void *a, const void *b)
{
	const struct mapping *x = a, *y = b;

	if (x->size != y->size)
		return x->size < y->size ? 1 : -1;
	return x->start < y->start ? -1 : x->start > y->start;
}

/* The soft limit in bytes; ULONG_MAX for unlimited, or if it cannot be read. */
static unsigned long read_limit(pid_t pid)
{
	static const char key[] = "Max locked memory";
	char path[64], line[256];
	unsigned long limit = ULONG_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "re");
	if (!f)
		return limit;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, sizeof(key) - 1))
			continue;
		if (sscanf(line + sizeof(key) - 1, "%lu", &limit) != 1)
			limit = ULONG_MAX;
	}
	fclose(f);
	return limit;
}

#define IPC_LOCK_BIT	14

static bool has_ipc_lock(pid_t pid)
{
	unsigned long long caps = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f) && sscanf(line, "CapEff: %llx", &caps) != 1)
		;
	if (f)
		fclose(f);
	return caps >> IPC_LOCK_BIT & 1;
}

static bool size_field(const char *line, const char *key, unsigned long *bytes)
{
	unsigned long kb;
	size_t n = strlen(key);

	if (strncmp(line, key, n) || sscanf(line + n, "%lu", &kb) != 1)
		return false;
	*bytes = kb * 1024;
	return true;
}

static int add_mapping(struct process *p, const struct mapping *m)
{
	struct mapping *maps;

	if (!m->lo) {
		if (is_secretmem(m->name))
			p->secret += m->pss;
		return 0;
	}
	maps = realloc(p->maps, (p->nr_maps + 1) * sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	p->maps = maps;
	maps[p->nr_maps] = *m;
	maps[p->nr_maps].name = strdup(m->name);
	if (!maps[p->nr_maps].name)
		return -ENOMEM;
	p->nr_maps++;
	p->size += m->size;
	p->rss += m->rss;
	p->locked += m->locked;
	return 0;
}

/* Reads the locked mappings of a process. Negative if it cannot be looked at. */
static int read_maps(struct process *p)
{
	/* A path may have 4 characters for one; a longer line would begin a second one. */
	static char line[4 * PATH_MAX + 128], name[sizeof(line)];
	struct mapping m = { .name = name };
	char path[64];
	int err = 0, at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", p->pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	*name = '\0';
	errno = 0;
	while (!err && fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		line[strcspn(line, "\n")] = '\0';
		/* Only the first line of a mapping begins with a small letter or a digit. */
		if (!isupper((unsigned char)line[0])) {
			at = 0;
			if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &start, &end, &at) < 2)
				continue;
			err = add_mapping(p, &m);
			memset(&m, 0, sizeof(m));
			m.start = start;
			m.end = end;
			m.name = strcpy(name, at ? line + at : "");
		} else if (!strncmp(line, "VmFlags:", 8)) {
			m.lo = strstr(line, " lo");
			m.lf = strstr(line, " lf");
		} else if (!size_field(line, "Size:", &m.size) &&
			   !size_field(line, "Rss:", &m.rss) &&
			   !size_field(line, "Pss:", &m.pss)) {
			size_field(line, "Locked:", &m.locked);
		}
	}
	if (!err)
		err = add_mapping(p, &m);
	if (!err && ferror(f))
		err = -(errno ?: EIO);
	fclose(f);
	if (p->nr_maps)
		qsort(p->maps, p->nr_maps, sizeof(*p->maps), by_size);
	return err;
}

static void free_maps(struct process *p)
{
	while (p->nr_maps)
		free(p->maps[--p->nr_maps].name);
	free(p->maps);
	p->maps = NULL;
}

/* False if there is no such process, or none with memory of its own. */
static bool read_process(struct process *p, pid_t pid)
{
	char path[64];

	memset(p, 0, sizeof(*p));
	p->pid = pid;
	read_comm(pid, p->comm, sizeof(p->comm));
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	p->vmlck = file_number(path, "VmLck:", ULONG_MAX);
	if (p->vmlck == ULONG_MAX)
		return false;
	p->vmpin = file_number(path, "VmPin:", 0);
	p->limit = read_limit(pid);
	p->ipc_lock = has_ipc_lock(pid);
	return true;
}

static const char *may_not(int err)
{
	if (err == -EACCES || err == -EPERM)
		return ": you may need to be the user of the process, or to have CAP_SYS_PTRACE";
	if (err == -ENOENT)
		return ": the process is gone, or the kernel has no CONFIG_PROC_PAGE_MONITOR";
	return "";
}

static int report(pid_t pid)
{
	struct process p;
	size_t i;
	int err;

	if (!read_process(&p, pid))
		die("there is no process %d with memory of its own", pid);
	err = read_maps(&p);
	if (json) {
		fprintf(out, "{\"event\":\"report\",\"pid\":%d,", pid);
		json_string("comm", p.comm);
		fputc(',', out);
		json_number("limit", p.limit, p.limit != ULONG_MAX);
		fprintf(out, ",\"cap_ipc_lock\":%s,\"charged\":%lu,\"pinned\":%lu,",
			p.ipc_lock ? "true" : "false", p.vmlck, p.vmpin);
		json_number("size", p.size, !err);
		fputc(',', out);
		json_number("resident", p.rss, !err);
		fputc(',', out);
		json_number("locked", p.locked, !err);
		fprintf(out, ",\"mappings\":%s", err ? "null}\n" : "[");
	} else {
		put_name(p.comm);
		fprintf(out, " (pid %d): RLIMIT_MEMLOCK %s, charged (VmLck) %s", pid,
			limit_text(p.limit), size_text(p.vmlck));
		if (p.vmpin)
			fprintf(out, ", pinned (VmPin) %s", size_text(p.vmpin));
		fprintf(out, "\n");
		if (p.ipc_lock)
			fputs("It has CAP_IPC_LOCK: no limit counts, unless it is in a user namespace of its own.\n",
			      out);
	}
	if (err)
		die("/proc/%d/smaps: %s%s", pid, strerror(-err), may_not(err));

	if (json) {
		for (i = 0; i < p.nr_maps; i++) {
			struct mapping *m = &p.maps[i];

			fprintf(out, "%s{\"start\":%lu,\"end\":%lu,\"mode\":\"%s\",\"size\":%lu,\"resident\":%lu,\"locked\":%lu,",
				i ? "," : "", m->start, m->end, m->lf ? "onfault" : "locked",
				m->size, m->rss, m->locked);
			json_string("name", m->name);
			fputc('}', out);
		}
		fputs("]}\n", out);
		free_maps(&p);
		return 0;
	}

	if (!p.nr_maps) {
		fprintf(out, "No mapping is locked.\n");
		return 0;
	}
	fprintf(out, "\n%10s %10s %10s  %-7s  %s\n", "size kB", "resident", "locked", "mode",
		"mapping");
	for (i = 0; i < p.nr_maps; i++) {
		struct mapping *m = &p.maps[i];

		fprintf(out, "%10lu %10lu %10lu  %-7s  %lx-%lx ", m->size >> 10,
			m->rss >> 10, m->locked >> 10, m->lf ? "onfault" : "locked",
			m->start, m->end);
		/* The kernel has escaped newlines, but no backslash. */
		put_escaped(*m->name ? m->name : "(anonymous)", "");
		fputc('\n', out);
	}
	fprintf(out, "%10lu %10lu %10lu  in %zu mapping%s\n", p.size >> 10, p.rss >> 10,
		p.locked >> 10, p.nr_maps, p.nr_maps == 1 ? "" : "s");
	free_maps(&p);
	return 0;
}

static int by_charge(const void *a, const void *b)
{
	const struct process *x = a, *y = b;

	if (x->vmlck != y->vmlck)
		return x->vmlck < y->vmlck ? 1 : -1;
	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

/* The resident part of System V shared memory that SHM_LOCK was called for. */
static unsigned long shm_locked(void)
{
	unsigned long sum = 0, rss;
	unsigned int mode;
	char line[512];
	FILE *f = fopen("/proc/sysvipc/shm", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*d %*d %o %*u %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %lu",
			   &mode, &rss) == 2 && mode & SHM_LOCKED_MODE)
			sum += rss;
	}
	if (f)
		fclose(f);
	return sum;
}

/* How many ramfs are mounted; they do not tell how much is in them. */
static unsigned int count_ramfs(void)
{
	char line[4096], type[64];
	unsigned int n = 0;
	FILE *f = fopen("/proc/self/mounts", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %*s %63s", type) == 1 && is(type, "ramfs"))
			n++;
	}
	if (f)
		fclose(f);
	return n;
}

/*
 * Whether a process has secret memory mapped, which it is not charged for. Negative
 * if it cannot be looked at.
 */
static int has_secretmem(pid_t pid)
{
	char path[64], line[4096];
	int found = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (!found && fgets(line, sizeof(line), f))
		found = !!strstr(line, " " SECRETMEM);
	fclose(f);
	return found;
}

/* In kB, or '?'. */
static const char *kb_text(unsigned long bytes, bool is_known)
{
	static char bufs[2][32];
	static unsigned int next;
	char *buf = bufs[next++ % 2];

	if (!is_known)
		return "?";
	snprintf(buf, sizeof(bufs[0]), "%lu", bytes >> 10);
	return buf;
}

static int report_system(void)
{
	unsigned long mlocked = file_number("/proc/meminfo", "Mlocked:", 0);
	unsigned long unevictable = file_number("/proc/meminfo", "Unevictable:", 0);
	unsigned long charged = 0, locked = 0, secret = 0, shm = shm_locked(), known;
	unsigned int ramfs = count_ramfs(), hidden = 0;
	bool know_locked = true, know_secret;
	struct process *all = NULL, p;
	size_t nr = 0, i;
	DIR *dir = opendir("/proc");
	struct dirent *d;
	pid_t pid;
	int err;

	if (!dir)
		die("/proc: %s", strerror(errno));
	while ((d = readdir(dir))) {
		struct process *more;

		if (!parse_pid(d->d_name, &pid) || !read_process(&p, pid))
			continue;
		err = has_secretmem(pid);
		if (p.vmlck || err > 0)
			err = read_maps(&p);
		free_maps(&p);
		/* It may have ended meanwhile. */
		if (err == -ENOENT || err == -ESRCH)
			continue;
		p.hidden = err < 0;
		hidden += p.hidden;
		secret += p.secret;
		if (!p.vmlck)
			continue;
		more = realloc(all, (nr + 1) * sizeof(*all));
		if (!more)
			die("%s", strerror(ENOMEM));
		all = more;
		all[nr++] = p;
		charged += p.vmlck;
		locked += p.locked;
		know_locked &= !p.hidden;
	}
	closedir(dir);
	know_secret = secret || !hidden;
	if (nr)
		qsort(all, nr, sizeof(*all), by_charge);

	if (json) {
		for (i = 0; i < nr; i++) {
			fprintf(out, "{\"event\":\"process\",\"pid\":%d,", all[i].pid);
			json_string("comm", all[i].comm);
			fputc(',', out);
			json_number("limit", all[i].limit, all[i].limit != ULONG_MAX);
			fprintf(out, ",\"cap_ipc_lock\":%s,\"charged\":%lu,\"pinned\":%lu,",
				all[i].ipc_lock ? "true" : "false", all[i].vmlck, all[i].vmpin);
			json_number("resident", all[i].rss, !all[i].hidden);
			fputc(',', out);
			json_number("locked", all[i].locked, !all[i].hidden);
			fputs("}\n", out);
		}
		fprintf(out, "{\"event\":\"system\",\"processes\":%zu,\"unreadable\":%u,\"charged\":%lu,",
			nr, hidden, charged);
		json_number("locked", locked, know_locked);
		fprintf(out, ",\"mlocked\":%lu,\"unevictable\":%lu,\"shm_lock\":%lu,", mlocked,
			unevictable, shm);
		json_number("secretmem", secret, know_secret);
		fprintf(out, ",\"ramfs_mounts\":%u}\n", ramfs);
		free(all);
		return 0;
	}

	if (nr)
		fprintf(out, "%10s %10s %10s  %10s  %s\n", "charged kB", "resident", "locked",
			"limit", "process");
	for (i = 0; i < nr; i++) {
		fprintf(out, "%10lu %10s %10s  %10s  ", all[i].vmlck >> 10,
			kb_text(all[i].rss, !all[i].hidden),
			kb_text(all[i].locked, !all[i].hidden), limit_text(all[i].limit));
		put_name(all[i].comm);
		fprintf(out, " (pid %d)\n", all[i].pid);
	}
	if (nr)
		fputc('\n', out);
	fprintf(out, "%10lu kB charged to %zu process%s (VmLck)\n", charged >> 10, nr,
		nr == 1 ? "" : "es");
	fprintf(out, "%10s kB of that is resident and locked, with their part of what is shared\n",
		kb_text(locked, know_locked));
	fprintf(out, "\n%10lu kB Mlocked in /proc/meminfo\n", mlocked >> 10);
	fprintf(out, "%10lu kB Unevictable in /proc/meminfo, of which, beside Mlocked,\n",
		unevictable >> 10);
	fprintf(out, "%10lu kB     System V shared memory with SHM_LOCK\n", shm >> 10);
	fprintf(out, "%10s kB     secret memory that is mapped, and not locked (memfd_secret)\n",
		kb_text(secret, know_secret));
	known = add(add(mlocked, shm), secret);
	fprintf(out, "%10s kB     the rest: ramfs (%u mounted), SHM_LOCK of other IPC namespaces, drivers\n",
		kb_text(unevictable > known ? unevictable - known : 0, know_secret), ramfs);
	if (hidden)
		fprintf(out, "\nWithout what %u process%s mapped that may not be looked at (CAP_SYS_PTRACE).\n",
			hidden, hidden == 1 ? " has" : "es have");
	fprintf(out, "\nThe counters may lag: what has just been locked or unlocked waits in a batch of its CPU.\n");
	free(all);
	return 0;
}

int main(int argc, char **argv)
{
	enum { OPT_REPORT = 256, OPT_SYSTEM };
	static const struct option options[] = {
		{ "pid", required_argument, NULL, 'p' },
		{ "all", no_argument, NULL, 'a' },
		{ "report", required_argument, NULL, OPT_REPORT },
		{ "system", no_argument, NULL, OPT_SYSTEM },
		{ "json", no_argument, NULL, 'j' },
		{ "output", required_argument, NULL, 'o' },
		{ "user", required_argument, NULL, 'u' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *file = NULL, *user = NULL;
	static char buf[16 << 10];
	int opt, status, mode = 0, modes = 0;
	pid_t pid = 0;

	while ((opt = getopt_long(argc, argv, "+p:ajo:u:h", options, NULL)) != -1) {
		switch (opt) {
		case 'p':
		case OPT_REPORT:
			if (!parse_pid(optarg, &pid))
				die("'%s' is no process number", optarg);
			mode = opt;
			modes++;
			break;
		case 'a':
		case OPT_SYSTEM:
			mode = opt;
			modes++;
			break;
		case 'j':
			json = true;
			break;
		case 'o':
			file = optarg;
			break;
		case 'u':
			user = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return EXIT_OURS;
		}
	}
	modes += optind < argc;
	if (modes != 1) {
		fprintf(stderr, "mlock-why: %s\n", modes ?
			"a command, -p, -a, --report and --system exclude each other" :
			"a command, -p, -a, --report or --system is wanted");
		usage(stderr);
		return EXIT_OURS;
	}
	if (user && mode) {
		fprintf(stderr, "mlock-why: --user is for a command\n");
		return EXIT_OURS;
	}

	page_size = sysconf(_SC_PAGESIZE);
	out = mode ? stdout : stderr;
	if (file) {
		out = fopen(file, "we");
		if (!out)
			die("%s: %s", file, strerror(errno));
	}
	/* A line at once: the command may write there, too. */
	setvbuf(out, buf, _IOLBF, sizeof(buf));

	if (mode && mode != 'a')
		want_proc();
	switch (mode) {
	case 'p':
	case 'a':
		status = watch(pid);
		break;
	case OPT_REPORT:
		status = report(pid);
		break;
	case OPT_SYSTEM:
		status = report_system();
		break;
	default:
		status = watch_command(argv + optind, user);
	}
	if (fflush(out) || ferror(out))
		die("cannot write %s", file ?: mode ? "to the standard output" : "to the standard error");
	return status;
}
