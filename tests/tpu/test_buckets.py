"""Regions of buckets, asked of Cloud Storage and a metadata server on loopback."""

import http.server
import json
import os
import threading

import pytest

from keras_bert_tpu.tpu import buckets
from keras_bert_tpu.tpu.buckets import bucket_regions, region_warning

BUCKETS = {
    "here": {"location": "US-CENTRAL1", "locationType": "region"},
    "there": {"location": "EUROPE-WEST4", "locationType": "region"},
    "states": {"location": "US", "locationType": "multi-region"},
    "union": {"location": "EU", "locationType": "multi-region"},
    "pair": {
        "location": "US",
        "locationType": "dual-region",
        "customPlacementConfig": {"dataLocations": ["US-EAST1", "US-WEST1"]},
    },
    "broken": [],
    "null": {"customPlacementConfig": None},
    "predefined": {"location": "NAM4", "locationType": "dual-region"},
}
METADATA = {
    "zone": "projects/123/zones/us-central1-b",
    "service-accounts/default/token": json.dumps({"access_token": "secret"}),
}


@pytest.fixture
def requests(monkeypatch):
    """What was asked of the storage API: path and authorization."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            status, body = 404, ""
            if path.startswith("/computeMetadata/v1/instance/"):
                body = METADATA.get(path.removeprefix("/computeMetadata/v1/instance/"), "")
                status = 200 if body and self.headers["Metadata-Flavor"] == "Google" else 404
            elif path.startswith("/storage/v1/b/"):
                asked.append((path, self.headers["Authorization"]))
                found = BUCKETS.get(path.removeprefix("/storage/v1/b/"))
                status, body = (403, "{}") if found is None else (200, json.dumps(found))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{server.server_port}")
        monkeypatch.setenv("GCE_METADATA_IP", f"localhost:{server.server_port}")
        yield asked
        server.shutdown()


def test_a_bucket_in_another_region_is_told_with_what_to_do(requests):
    told = region_warning("gs://there/records", "local")
    assert "gs://there is in europe-west4, the TPU in us-central1" in told
    assert "take a bucket in us-central1" in told
    # The account's token is for Google's own address alone.
    assert requests == [("/storage/v1/b/there", None)]


def test_googles_own_address_is_given_the_token(requests, monkeypatch):
    monkeypatch.setattr(buckets, "_STORAGE", os.environ["STORAGE_EMULATOR_HOST"])
    assert bucket_regions("there") == ("europe-west4",)
    assert requests == [("/storage/v1/b/there", "Bearer secret")]


@pytest.mark.parametrize(
    ("bucket", "is_told"),
    [("here", False), ("states", False), ("union", True), ("pair", True), ("predefined", False)],
)
def test_multi_regions_and_pairs_of_regions(requests, bucket, is_told):
    assert bool(region_warning(f"gs://{bucket}/x", "local")) == is_told


def test_the_zone_of_a_named_tpu_counts(requests):
    assert region_warning("gs://there/x", "node-1", "europe-west4-a") is None
    assert "the TPU in europe-west4" in region_warning("gs://here/x", "node-1", "europe-west4-a")


def test_what_cannot_be_known_is_not_told(requests, monkeypatch):
    for bucket in ("forbidden", "broken", "null"):
        assert region_warning(f"gs://{bucket}/x", "local") is None
    assert region_warning("gs://there/x", None) is None
    assert region_warning("/data/x", "local") is None
    monkeypatch.setenv("GCE_METADATA_IP", "localhost:1")
    assert region_warning("gs://there/x", "local") is None
    assert bucket_regions("there") == ("europe-west4",)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:1")
    assert bucket_regions("there") == ()
