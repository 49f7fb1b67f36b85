"""What programs write into their pictures of how they drew them: read, and written where others read it."""
