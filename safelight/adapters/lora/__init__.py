"""LoRA and its kin: files of every dialect, matched to a model's layers, attached, merged, extracted, written."""
