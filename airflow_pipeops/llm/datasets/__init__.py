"""Items that prompts are rendered with and models are asked, pinned by a digest."""
