/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the selftests take from libcap, for ABIs that have no package of it:
 * dropping all capabilities.
 */
#ifndef MLOCK2_SYS_CAPABILITY_H
#define MLOCK2_SYS_CAPABILITY_H

#include <linux/capability.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct __user_cap_data_struct *cap_t;

/* No capability is set; NULL if there is no memory. */
static inline cap_t cap_init(void)
{
	return calloc(_LINUX_CAPABILITY_U32S_3, sizeof(struct __user_cap_data_struct));
}

static inline int cap_set_proc(cap_t cap)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};

	return syscall(SYS_capset, &header, cap);
}

static inline int cap_free(void *cap)
{
	free(cap);
	return 0;
}

#endif
