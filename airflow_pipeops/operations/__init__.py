"""Operations of what is delivered: what changed, what is unusual, what may be done about it, within which limits."""
