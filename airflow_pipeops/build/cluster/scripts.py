"""What runs in the pods beside the user's own: shell scripts, as short as they can be. Pure.

They read their words from the environment and their secrets from mounted files. No secret is ever an argument or a
variable: both are seen by whoever may look at the pod, or at the processes of its node.
"""

from __future__ import annotations

#: Fetches one commit. The tree is left without its history, and without what Git keeps beside it.
FETCH = r"""
set -eu
HOME=$(mktemp -d); export HOME
export GIT_TERMINAL_PROMPT=0 GIT_LFS_SKIP_SMUDGE=1
secret=$PIPEOPS_GIT_SECRET
if [ -f "$secret/ssh-privatekey" ]; then
  if [ ! -f "$secret/known_hosts" ]; then
    echo "the Git secret has no known_hosts, so nobody could tell the server from another one" >&2; exit 64
  fi
  (umask 077; cat "$secret/ssh-privatekey" > "$HOME/key"; echo >> "$HOME/key")
  GIT_SSH_COMMAND="ssh -i $HOME/key -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
  export GIT_SSH_COMMAND="$GIT_SSH_COMMAND -o UserKnownHostsFile=$secret/known_hosts"
elif [ -f "$secret/password" ]; then
  { echo '#!/bin/sh'
    echo 'case "$1" in'
    echo "Username*) if [ -f '$secret/username' ]; then cat '$secret/username'; else echo x-access-token; fi ;;"
    echo "*) cat '$secret/password' ;;"
    echo 'esac'; } > "$HOME/askpass"
  chmod 700 "$HOME/askpass"
  export GIT_ASKPASS="$HOME/askpass"
fi
mkdir -p "$PIPEOPS_SOURCE"; cd "$PIPEOPS_SOURCE"
git init -q .
git remote add origin "$PIPEOPS_GIT_URL"
git fetch -q --depth 1 origin "$PIPEOPS_COMMIT" 2>/dev/null || git fetch -q origin
git -c advice.detachedHead=false checkout -q --force "$PIPEOPS_COMMIT"
if [ "$(git rev-parse HEAD)" != "$PIPEOPS_COMMIT" ]; then echo "this is another commit" >&2; exit 65; fi
if [ -n "$PIPEOPS_LFS" ]; then git lfs pull; fi
rm -rf .git
if [ -n "$PIPEOPS_SHARED" ]; then chmod -R a+rwX .; fi
echo "fetched $PIPEOPS_COMMIT"
"""

#: Builds and pushes by BuildKit: the arguments are those of ``buildctl``. The digest becomes the container's last word.
BUILDKIT = r"""
set -eu
cd "$PIPEOPS_WORK"
printf '%s' "$PIPEOPS_CONTAINERFILE" > Containerfile
for ignored in "$PIPEOPS_FILE.dockerignore" "$PIPEOPS_CONTEXT/.containerignore"; do
  if [ -f "$PIPEOPS_SOURCE/$ignored" ] && [ ! -f Containerfile.dockerignore ]; then
    cp "$PIPEOPS_SOURCE/$ignored" Containerfile.dockerignore
  fi
done
buildctl-daemonless.sh "$@"
digest=$(tr -d '\n' < metadata.json | sed -n 's/.*"containerimage\.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p')
printf '{"digest": "%s"}' "$digest" > "$PIPEOPS_LAST_WORD"
"""

#: The same by Buildah: the arguments are those of ``buildah build``.
BUILDAH = r"""
set -eu
cd "$PIPEOPS_WORK"
printf '%s' "$PIPEOPS_CONTAINERFILE" > Containerfile
ignored=
for candidate in "$PIPEOPS_FILE.dockerignore" "$PIPEOPS_CONTEXT/.containerignore" "$PIPEOPS_CONTEXT/.dockerignore"; do
  if [ -f "$PIPEOPS_SOURCE/$candidate" ] && [ -z "$ignored" ]; then ignored="$PIPEOPS_SOURCE/$candidate"; fi
done
if [ -n "$ignored" ]; then set -- "$@" "--ignorefile=$ignored"; fi
buildah build "$@" "$PIPEOPS_SOURCE/$PIPEOPS_CONTEXT"
if [ -n "$PIPEOPS_MANIFEST" ]; then
  buildah manifest push --all --digestfile digest "$PIPEOPS_IMAGE" "docker://$PIPEOPS_IMAGE"
else
  buildah push --digestfile digest "$PIPEOPS_IMAGE" "docker://$PIPEOPS_IMAGE"
fi
printf '{"digest": "%s"}' "$(cat digest)" > "$PIPEOPS_LAST_WORD"
"""

#: Writes one report where it is read without a right to run commands in pods: packed, between two lines that frame it.
_HAND_OVER = r"""
hand_over() {
  file=$PIPEOPS_REPORTS/$1
  if [ -f "$file" ] && [ ! -L "$file" ]; then
    size=$(wc -c < "$file" | tr -d ' ')
    if [ "$size" -gt "$PIPEOPS_MOST" ]; then echo "=== pipeops too-large $1 $size $PIPEOPS_MOST"; return; fi
    echo "=== pipeops begin $1 $size $(sha256sum < "$file" | cut -d ' ' -f 1)"
    gzip -c "$file" | base64
    echo "=== pipeops end $1"
  fi
}
"""

#: Waits until it is told to end, which the kubelet does when the tests have ended however they did; then it writes the
#: reports to its own log.
REPORTS = (
    _HAND_OVER
    + r"""
send() {
  trap '' TERM INT
  kill $!
  for name in junit.xml coverage.xml; do hand_over "$name"; done
  echo "=== pipeops all"
  exit 0
}
trap send TERM INT
while :; do sleep 3600 & wait $!; done
"""
)

#: Takes variables and arguments out of two texts, for whoever can be given neither a list of his own: each is a line, that
#: begins with a dash and is written as ``printf %b`` reads it. Nothing of a line is ever read as a command.
GIVEN = r"""
set -eu
while IFS= read -r given; do
  [ -n "$given" ] || continue
  given=$(printf '%b.' "${given#-}")
  export "${given%.}"
done <<END
$PIPEOPS_ENVIRONMENT
END
set --
while IFS= read -r given; do
  [ -n "$given" ] || continue
  given=$(printf '%b.' "${given#-}")
  set -- "$@" "${given%.}"
done <<END
${PIPEOPS_ARGUMENTS-}
END
unset PIPEOPS_ENVIRONMENT PIPEOPS_ARGUMENTS given
"""

#: Runs the tests, which are the arguments, and leaves the reports in the container's last word; each must have room in it.
TESTS = (
    _HAND_OVER
    + r"""
set +eu
if [ -n "$PIPEOPS_FOLDER" ]; then cd "$PIPEOPS_FOLDER" || exit 66; fi
(
  unset PIPEOPS_FOLDER PIPEOPS_LAST_WORD PIPEOPS_REPORTS PIPEOPS_MOST PIPEOPS_ROOM
  exec "$@"
)
status=$?
left=$PIPEOPS_ROOM
for name in junit.xml coverage.xml; do
  hand_over "$name" > "$PIPEOPS_REPORTS/packed"
  size=$(wc -c < "$PIPEOPS_REPORTS/packed" | tr -d ' ')
  if [ "$size" -gt "$left" ]; then
    echo "=== pipeops too-large $name $size $left packed"
  else
    left=$((left - size))
    cat "$PIPEOPS_REPORTS/packed"
  fi
done > "$PIPEOPS_LAST_WORD"
echo "=== pipeops all" >> "$PIPEOPS_LAST_WORD"
exit $status
"""
)


def literal(text: str) -> str:
    """Return a text as Kubernetes leaves it alone: of a pod's arguments and variables, it takes ``$(NAME)`` and ``$$``."""
    return text.replace("$", "$$")


def line(text: str) -> str:
    """Write a text as a line of which :data:`GIVEN` makes it again.

    Nobody on the way finds anything to fill in: engines look for ``{{``, Kubernetes for ``$(``; and all of it is ASCII.

    :param text: any.
    :return: the line.
    """
    content = text.encode("utf-8", "surrogateescape")
    kept = (chr(byte) if 32 <= byte < 127 and byte not in b"\\{$" else f"\\0{byte:03o}" for byte in content)
    return "-" + "".join(kept)
