"""Trains the model that draws views of a person from one portrait."""
