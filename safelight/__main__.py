"""``python -m safelight`` is the command ``safelight``."""

from __future__ import annotations

from safelight.cli.main import main

raise SystemExit(main())
