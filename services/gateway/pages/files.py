"""Scripts, styles and fonts: a browser keeps what is addressed by its version, and asks anew for the rest."""

from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_FOR_EVER = "public, max-age=31536000, immutable"


class KeptFiles(StaticFiles):
    """Static files of the pages. Vendored ones have their version in their name, others in their query (`?v=`)."""

    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        """The file, and how long it may be kept."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        is_versioned = b"v=" in scope.get("query_string", b"") or Path(full_path).parent.name == "vendor"
        response.headers["Cache-Control"] = _FOR_EVER if is_versioned else "no-cache"
        return response
