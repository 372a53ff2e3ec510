"""Serves S3 by moto on a free port and prints its address; when its input ends, writes every object below a folder.

    moto-server.py BUCKET REGION FOLDER
"""

import logging
import pathlib
import sys

import boto3
from moto.server import ThreadedMotoServer


def main(bucket, region, folder):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=region, **keys)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    print(endpoint, flush=True)
    sys.stdin.read()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            path = pathlib.Path(folder) / bucket / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    server.stop()


main(*sys.argv[1:])
