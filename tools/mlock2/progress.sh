#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Read the output of a kernel build: write it to the log, show the progress on one line (every ten
# seconds without a terminal), and pass on warnings and errors.
set -euo pipefail
log=${1:?usage: progress.sh LOG}
: >"$log"
n=0 last=$SECONDS start=$SECONDS tty=
[ -t 1 ] && tty=1
while IFS= read -r line; do
	printf '%s\n' "$line" >>"$log"
	case $line in
	*warning:*|*error:*|*Error\ *|*undefined\ symbol*|*"***"*)
		printf '%s%s\n' "${tty:+$'\r\e[K'}" "$line"
		;;
	'  '[A-Z]*)
		n=$((n + 1))
		if [ -n "$tty" ]; then
			printf '\r\e[K  %5d steps  %s' "$n" "${line:0:60}"
		elif [ $((SECONDS - last)) -ge 10 ]; then
			last=$SECONDS
			printf '  %5d steps, %3d s: %s\n' "$n" "$((SECONDS - start))" "${line:0:60}"
		fi
		;;
	esac
done
[ -n "$tty" ] && printf '\r\e[K'
printf '  %d steps in %d s; log: %s\n' "$n" "$((SECONDS - start))" "$log"
