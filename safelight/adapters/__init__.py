"""What is laid over a loaded model: changed layers, guided networks, pictures as prompts, learned words."""
