"""Guidance beyond the plain: each rule wraps another or stands alone; see `safelight.core.guidance`."""
