"""What changes a loaded model and can be taken away again: LoRA and its kin, and what uses a network's ports."""
