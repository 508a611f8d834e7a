
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
