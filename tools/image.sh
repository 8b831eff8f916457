#!/bin/sh
# Builds the image for CPUs with buildah, without a daemon. With no argument its base is a Debian
# that debootstrap makes, for where no registry of images can be reached.
#
#   tools/image.sh [BASE]
#
# Needs root, buildah, and debootstrap for the base. MOUNT names files and directories of this
# machine that the build shall see, at the same places: pip's configuration and what it refers to.
set -eu
cd "$(dirname "$0")/.."
export BUILDAH_ISOLATION=chroot  # no runtime for containers either
base=${1:-}

if [ -z "$base" ]; then
	base=localhost/steersman-debian
	if ! buildah inspect --type image $base >/dev/null 2>&1; then
		root=$(mktemp -d)
		trap 'rm -rf "$root"' EXIT
		debootstrap --variant=minbase --include=ca-certificates,python3,python3-dev,python3-venv \
			bookworm "$root" http://deb.debian.org/debian >&2
		container=$(buildah from scratch)
		buildah add --quiet "$container" "$root" /
		buildah commit --quiet --rm "$container" $base
	fi
fi

volumes=
for path in ${MOUNT-$(ls -d /etc/pip.conf /root/.config/pip /etc/ssl/certs 2>/dev/null)}; do
	volumes="$volumes --volume $path:$path:ro"
done
# Older buildahs do not find a stage by a name that an argument makes.
# shellcheck disable=SC2086
sed 's/\${DEVICE}-base/cpu-base/' Dockerfile | buildah build --format docker \
	--build-arg CPU_BASE="$base" $volumes --tag localhost/steersman:cpu --file - .
