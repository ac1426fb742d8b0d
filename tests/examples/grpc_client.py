"""Calls a method of the gRPC example, and prints what it answers; a process of its own, since gRPC's threads stay.

python grpc_client.py PORT METHOD REQUEST
"""

import json
import sys

import grpc


def main(port: str, method: str, request: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"/Workers/{method}",
            request_serializer=lambda value: json.dumps(value).encode(),
            response_deserializer=json.loads,
        )
        try:
            print(json.dumps(call(json.loads(request), wait_for_ready=True, timeout=30)))
        except grpc.RpcError as error:
            print(json.dumps(error.code().name))


if __name__ == "__main__":
    main(*sys.argv[1:])
