
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
