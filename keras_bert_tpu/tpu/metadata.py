"""What a machine of Google Cloud is told about itself, by its metadata server."""

import http.client
import os
import urllib.request


def machine_metadata(name: str) -> str | None:
    """Returns an entry of this machine's metadata.

    Args:
        name: str. Below `instance`, for example "zone" or "attributes/accelerator-type".

    Returns:
        The text, or None if it has no such entry or is no machine of Google Cloud.
    """
    # The variable that names another server is TensorFlow's.
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/instance/{name}",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return response.read().decode()
    # An OSError is also what urllib raises: no such server, no such entry.
    except (OSError, http.client.HTTPException, ValueError):
        return None
