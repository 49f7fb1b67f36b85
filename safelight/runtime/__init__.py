"""Devices, threads and number formats: generic over modules, knows no model."""
