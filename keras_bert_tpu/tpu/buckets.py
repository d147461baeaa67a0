"""Where a bucket is, beside where the TPU is: what is read across regions is slow and costs.

Asked of Cloud Storage's JSON API (docs.cloud.google.com/storage/docs/json_api/v1/buckets/get) with
what this machine is told by its metadata. Where that cannot be known, for example because its
account may not see the bucket's settings, nothing is said.
"""

import http.client
import json
import os
import re
import urllib.parse
import urllib.request

from keras_bert_tpu.tpu.metadata import machine_metadata

_STORAGE = "https://storage.googleapis.com"
# Regions within a multi-region (docs.cloud.google.com/storage/docs/locations).
_MULTI_REGIONS = {"us": "us-", "eu": "europe-", "asia": "asia-"}


def region_warning(path: str, tpu: str | None, zone: str | None = None) -> str | None:
    """Returns a sentence if a path is in a bucket of another region than the TPU.

    Args:
        path: str. Of records, or of a run.
        tpu: str or None. As in `connect`; without a TPU nothing is said.
        zone: str or None. Zone of the TPU; by default that of this machine.

    Returns:
        The sentence, or None if it is there, is not in a bucket, or it cannot be known.
    """
    match = re.match(r"gs://([^/]+)", path)
    if not tpu or not match:
        return None
    # "projects/123/zones/us-central1-b" in the metadata.
    zone = zone or (machine_metadata("zone") or "").rpartition("/")[2]
    places = bucket_regions(match[1]) if zone else ()
    region = zone.rpartition("-")[0]
    if not places or any(region == place or _is_within(region, place) for place in places):
        return None
    return (
        f"Bucket gs://{match[1]} is in {' and '.join(places)}, the TPU in {region}: reading and "
        f"writing across regions is slow and is charged for; take a bucket in {region}, and copy "
        f"records there with gcloud storage cp -r."
    )


def bucket_regions(bucket: str) -> tuple[str, ...]:
    """Returns the regions that a bucket is in, or its multi-region; nothing if it is not known.

    Args:
        bucket: str. Name, without gs://.
    """
    host = os.environ.get("STORAGE_EMULATOR_HOST", _STORAGE).rstrip("/")
    if "://" not in host:
        host = f"http://{host}"
    name = urllib.parse.quote(bucket, safe="")
    fields = "location,locationType,customPlacementConfig"
    request = urllib.request.Request(f"{host}/storage/v1/b/{name}?fields={fields}")
    # Not to whatever else the variable names.
    token = machine_metadata("service-accounts/default/token") if host == _STORAGE else None
    try:
        if token:
            request.add_header("Authorization", f"Bearer {json.loads(token)['access_token']}")
        with urllib.request.urlopen(request, timeout=5) as response:
            found = json.load(response)
        regions = found.get("customPlacementConfig", {}).get("dataLocations", [])
        # The predefined pairs of regions, such as NAM4, do not tell which ones they are.
        if not regions and found.get("locationType") != "dual-region":
            regions = [found.get("location", "")]
        return tuple(region.lower() for region in regions if region)
    # Whatever a proxy may answer: this is advice, and must not end a run.
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _is_within(region: str, place: str) -> bool:
    return place in _MULTI_REGIONS and region.startswith(_MULTI_REGIONS[place])
