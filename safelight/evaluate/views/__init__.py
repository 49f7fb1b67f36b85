"""Views of one person on trial: exact truth, metrics that a grey picture fails, floors, and a fit to the views."""
