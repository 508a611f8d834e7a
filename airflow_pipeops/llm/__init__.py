"""Prompts and their operations: released like code, evaluated by gates that know their noise, watched where they run."""
