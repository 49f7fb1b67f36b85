"""The default model on trial: held-out prompts, the exact checker, floors, curves, neighbours."""
