
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
