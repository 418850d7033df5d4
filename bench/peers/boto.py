"""boto3 as a peer: publishes for as long as a line of its input says, in milliseconds, and answers how long it took."""
import itertools
import json
import sys
import threading
import time

import boto3
from botocore.config import Config

mode, endpoint, topic, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
client = boto3.client(
    "sns",
    endpoint_url=endpoint,
    region_name="eu-west-1",
    aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
    aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    config=Config(max_pool_connections=threads, retries={"max_attempts": 0}),
)
messages = [
    json.dumps(
        {
            "to_user_id": f"user{n * 31 % 1000}@example.org",
            "message": f"message {n}: the quick brown fox jumps over the lazy dog",
            "from_user_id": f"user{n % 1000}@example.org",
        },
        separators=(",", ":"),
    )
    for n in range(10_000)
]
batches = [
    [{"Id": str(index), "Message": message} for index, message in enumerate(messages[n : n + 10])]
    for n in range(0, len(messages), 10)
]
counter = itertools.count()


def publish():
    n = next(counter)
    if mode == "batch":
        client.publish_batch(TopicArn=topic, PublishBatchRequestEntries=batches[n % len(batches)])
    else:
        client.publish(TopicArn=topic, Message=messages[n % len(messages)])


def work(end):
    while time.monotonic() < end:
        publish()


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    begin = time.monotonic()
    end = begin + int(line) / 1000
    workers = [threading.Thread(target=work, args=(end,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps(time.monotonic() - begin), flush=True)
