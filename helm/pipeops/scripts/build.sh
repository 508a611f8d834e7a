
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
