"""Streamed answers of a server in OpenAI's wire format, many at once."""
import asyncio
import json
import time

import httpx2 as httpx


async def stream(client, url, body):
    """-> (seconds to the first text, tokens)"""
    start, first, tokens = time.monotonic(), None, 0
    async with client.stream("POST", url, json={**body, "stream": True, "stream_options": {"include_usage": True}}) as r:
        assert r.status_code == 200, await r.aread()
        async for line in r.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if first is None and chunk["choices"]:
                choice = chunk["choices"][0]
                if choice.get("text") or choice.get("delta", {}).get("content"):
                    first = time.monotonic() - start
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    return first or 0.0, tokens


def run_streams(url, bodies):
    """All at once -> (tokens per second of all together, seconds to the first text of each)"""
    async def run():
        async with httpx.AsyncClient(timeout=600) as client:
            return await asyncio.gather(*(stream(client, url, body) for body in bodies))
    start = time.monotonic()
    results = asyncio.run(run())
    return sum(tokens for _, tokens in results) / (time.monotonic() - start), [first for first, _ in results]
