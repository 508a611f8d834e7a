"""Features: made by named code, joined as they were known at a time, made once, and the same where the model is served."""
