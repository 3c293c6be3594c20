// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/signal.h>
#include <linux/user_namespace.h>

__rust_helper unsigned long rust_helper_rlimit(unsigned int limit)
{
	return rlimit(limit);
}

__rust_helper unsigned long
rust_helper_task_rlimit(const struct task_struct *task, unsigned int limit)
{
	return task_rlimit(task, limit);
}

__rust_helper struct ucounts *rust_helper_get_ucounts(struct ucounts *ucounts)
{
	return get_ucounts(ucounts);
}

__rust_helper long rust_helper_get_rlimit_value(struct ucounts *ucounts,
						enum rlimit_type type)
{
	return get_rlimit_value(ucounts, type);
}
