"""What stands beside a model and speaks through its ports: control networks, adapters of layers and of words."""
