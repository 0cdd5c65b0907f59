"""Streamed answers of a server in OpenAI's wire format, many at once. The client shares the server's cores, so it does as
little as it can: plain sockets, and JSON only until the first text and for the usage at the end."""
import asyncio
import json
import time
from urllib.parse import urlsplit


async def events(reader):
    """The data of each server-sent event of a chunked answer, as bytes."""
    status = await reader.readline()
    assert status.split()[1] == b"200", status
    while await reader.readline() != b"\r\n":
        pass
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield line[6:]


async def stream(url, body):
    """-> (seconds to the first text, tokens)"""
    start, first, tokens = time.monotonic(), None, 0
    parts = urlsplit(url)
    content = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    async for data in events(reader):
        if first is None:
            for choice in json.loads(data)["choices"]:
                if choice.get("text") or choice.get("delta", {}).get("content"):
                    first = time.monotonic() - start
        elif b'"usage":{' in data:
            tokens = json.loads(data)["usage"]["completion_tokens"]
    writer.close()
    return first or 0.0, tokens


def run_streams(url, bodies):
    """All at once -> (tokens per second of all together, seconds to the first text of each)"""
    async def run():
        return await asyncio.gather(*(stream(url, body) for body in bodies))
    start = time.monotonic()
    results = asyncio.run(run())
    return sum(tokens for _, tokens in results) / (time.monotonic() - start), [first for first, _ in results]
