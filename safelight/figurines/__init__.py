"""The toy world: exact pictures, captions, cameras, and an exact checker."""
