"""A machine's metadata service, which hands out its role's credentials: is it there, and silent?"""

from __future__ import annotations

import http.client
import urllib.parse

import botocore.session
from botocore.utils import IMDSFetcher

TOKEN = "/latest/api/token"  # the first that botocore asks for (IMDSv2)
USUAL = {"ipv4": "http://169.254.169.254", "ipv6": "http://[fd00:ec2::254]"}
LIFETIME = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


def is_silent(seconds: float = 2.0) -> bool:
    """Whether it takes connections, and gives no answer within `seconds`: it is late, or its answers do not come
    through to a container (each hop counts, and one is allowed where nobody said otherwise).
    """
    session = botocore.session.Session()
    mode = str(session.get_config_variable("ec2_metadata_service_endpoint_mode") or "ipv4").lower()
    address = session.get_config_variable("ec2_metadata_service_endpoint") or USUAL.get(mode, USUAL["ipv4"])
    if getattr(IMDSFetcher(), "_disabled", False):  # AWS_EC2_METADATA_DISABLED
        return False
    split = urllib.parse.urlsplit(str(address))
    try:
        connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=seconds)
        connection.connect()
    except (OSError, ValueError, http.client.InvalidURL):
        return False  # not there
    try:
        connection.request("PUT", split.path.rstrip("/") + TOKEN, headers=LIFETIME)
        connection.getresponse()
    except OSError:
        return True
    except http.client.HTTPException:
        return False
    finally:
        connection.close()
    return False
