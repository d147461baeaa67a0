"""The Cloud TPU API on loopback: its discovery document and the nodes of one project."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

PREFIX = "/v1/projects/our-project/locations/us-central1-a/nodes/"


def discovery(address: str) -> dict[str, Any]:
    """What the client builds its methods from: the part of the real document that it uses."""
    name = {"type": "string", "location": "path", "required": True, "pattern": "^projects/.*$"}
    get = {
        "id": "tpu.projects.locations.nodes.get",
        "path": "v1/{+name}",
        "flatPath": "v1/{+name}",
        "httpMethod": "GET",
        "parameters": {"name": name},
        "parameterOrder": ["name"],
        "response": {"$ref": "Node"},
    }
    nodes = {"nodes": {"methods": {"get": get}}}
    locations = {"locations": {"resources": nodes}}
    return {
        "kind": "discovery#restDescription",
        "name": "tpu",
        "version": "v1",
        "rootUrl": f"{address}/",
        "servicePath": "",
        "baseUrl": f"{address}/",
        "batchPath": "batch",
        "schemas": {"Node": {"id": "Node", "type": "object", "properties": {}}},
        "resources": {"projects": {"resources": locations}},
    }


@contextlib.contextmanager
def serve(answers: dict[str, list[dict[str, Any] | int]]) -> Iterator[str]:
    """Serves the API; yields the address of its discovery document.

    Args:
        answers: For each node what one question after the other is answered with, a number for
            an error of that status; the last answer is given again and again.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = f"http://localhost:{self.server.server_port}"
            path = self.path.split("?")[0]
            status, body = 200, {}
            if path == "/discovery":
                body = discovery(address)
            elif path.removeprefix(PREFIX) in answers:
                left = answers[path.removeprefix(PREFIX)]
                body = left.pop(0) if len(left) > 1 else left[0]
                if isinstance(body, int):
                    status, body = body, {"error": {"code": body, "message": "out of order"}}
            else:
                status, body = 404, {"error": {"code": 404, "message": "not found"}}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://localhost:{server.server_port}/discovery"
        finally:
            server.shutdown()
