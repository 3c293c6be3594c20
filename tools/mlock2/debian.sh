# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Fetch Debian packages from any release; scripts source this. BUILD is the directory of all
# generated files.

# The Debian mirror of apt; empty if apt has no lists yet.
debian_mirror() {
	apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && uri == "" { uri = $2 } END { print uri }'
}

# fetch_package NAME [DIR [SUITE...]]: fetch the package into DIR ($BUILD/source by default), and
# set $deb to the file; apt checks the signature. The apt configuration of the machine stays as it
# is.
fetch_package() {
	local name=$1 dir=${2:-$BUILD/source} suite suites opts mirror
	shift "$(($# < 2 ? $# : 2))"
	suites=("$@")
	[ $# -gt 0 ] || suites=(trixie-backports trixie forky sid)
	mkdir -p "$dir"
	deb=$(find "$dir" -maxdepth 1 -name "$name*.deb" | head -n 1)
	[ -z "$deb" ] || return 0
	command -v apt-get >/dev/null || die "no apt-get here to fetch $name with: give your own ($INSTEAD)"
	# the mirror that this machine already uses
	mirror=$(debian_mirror)
	if [ -z "$mirror" ] && [ "$(id -u)" = 0 ]; then
		apt-get -q update >"$dir/apt.log" 2>&1 || true
		mirror=$(debian_mirror)
	fi
	[ -n "$mirror" ] || die "apt has no Debian mirror ('apt-get update' may help): give your own ($INSTEAD)"
	for suite in "${suites[@]}"; do
		rm -rf "$dir/apt"
		mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/apt/parts"
		printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
			"$mirror" "$suite" >"$dir/apt/parts/linux.sources"
		opts=(-q -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$dir/apt/parts"
		      -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache"
		      -o "Dir::State::status=/dev/null" -o "APT::Sandbox::User=")
		say "looking for $name in Debian $suite"
		apt-get "${opts[@]}" update >"$dir/apt.log" 2>&1 || continue
		# rename it only when it is complete
		rm -rf "$dir/new"
		mkdir "$dir/new"
		(cd "$dir/new" && apt-get "${opts[@]}" download "$name") >>"$dir/apt.log" 2>&1 || continue
		mv "$dir"/new/*.deb "$dir/"
		break
	done
	rm -rf "$dir/apt" "$dir/new"
	deb=$(find "$dir" -maxdepth 1 -name "$name*.deb" | head -n 1)
	[ -n "$deb" ] || die "Debian has no $name to fetch (log: $dir/apt.log): give your own ($INSTEAD)"
}
