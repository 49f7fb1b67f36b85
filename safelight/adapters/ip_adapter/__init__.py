"""Pictures as prompts: IP-Adapter, whose keys and values stand beside those of the text."""
