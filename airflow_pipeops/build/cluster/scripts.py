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

#: Waits until it is told to end, which the kubelet does when the tests have ended however they did; then it writes the
#: reports to its own log, where they are read without a right to run commands in pods.
REPORTS = r"""
send() {
  trap '' TERM INT
  kill $!
  for name in junit.xml coverage.xml; do
    file=$PIPEOPS_REPORTS/$name
    if [ -f "$file" ] && [ ! -L "$file" ]; then
      size=$(wc -c < "$file" | tr -d ' ')
      if [ "$size" -gt "$PIPEOPS_MOST" ]; then echo "=== pipeops too-large $name $size"; continue; fi
      echo "=== pipeops begin $name $size $(sha256sum < "$file" | cut -d ' ' -f 1)"
      gzip -c "$file" | base64
      echo "=== pipeops end $name"
    fi
  done
  echo "=== pipeops all"
  exit 0
}
trap send TERM INT
while :; do sleep 3600 & wait $!; done
"""


def literal(text: str) -> str:
    """Return a text as Kubernetes leaves it alone: of a pod's arguments and variables, it takes ``$(NAME)`` and ``$$``."""
    return text.replace("$", "$$")
