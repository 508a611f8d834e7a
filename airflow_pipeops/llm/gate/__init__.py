"""A gate for prompts: is the candidate better than the baseline, not worse, worse, or can nobody tell?"""
