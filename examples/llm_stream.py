"""
Read a language model's answer token by token, as it is written.

Services of this kind take a question as JSON (POST) and answer with server-sent events, each with a piece of
the text as JSON in its data, and ``[DONE]`` in the last:

    data: {"choices": [{"delta": {"content": "Hel"}}]}

Such a request is not safe to repeat (each costs money), so nothing is connected again on its own. The key is
read from the environment variable API_KEY. Without a URL the program brings a little server that answers.

    python examples/llm_stream.py [--url URL] [--model MODEL] QUESTION
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator

import aiosock

# A model may think for a while before, and between, its words.
TIMEOUT = aiosock.Timeout(read=120)


class AnswerError(Exception):
    """The answer is none, or stops in the middle, for the reason that the message tells."""


async def tokens(client: aiosock.Client, url: str, model: str, question: str) -> AsyncGenerator[str, None]:
    """Yield the pieces of the answer to a question, each as soon as it arrives."""
    ask = {"model": model, "stream": True, "messages": [{"role": "user", "content": question}]}
    async with client.events(url, method="POST", json=ask, timeout=TIMEOUT) as stream:
        async for event in stream:
            if event.data == "[DONE]":
                return
            yield read_delta(event.data)
    raise AnswerError("the answer ended without [DONE]")


def read_delta(data: str) -> str:
    """Return the text in one event's data, ``""`` where it has none."""
    try:
        answer = json.loads(data)
        if "error" in answer:
            raise AnswerError(f"the service says: {printable(str(answer['error']))}")
        content = answer["choices"][0]["delta"].get("content")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AnswerError(f"an event is no piece of an answer: {printable(data)}") from error
    return content if isinstance(content, str) else ""


def printable(text: str) -> str:
    """Return what a server says so that it cannot steer a terminal."""
    return "".join(char for char in text[:200] if char.isprintable() or char == "\n")


async def answer(url: str, model: str, question: str) -> None:
    """Print the answer to a question as it comes."""
    key = os.environ.get("API_KEY")
    auth = aiosock.BearerAuth(key) if key else None
    async with aiosock.Client(auth=auth) as client:
        pieces = tokens(client, url, model, question)
        try:
            async for piece in pieces:
                print("".join(char for char in piece if char.isprintable() or char == "\n"), end="", flush=True)
        finally:
            await pieces.aclose()
            print()


async def pretend(question: str) -> None:
    """Answer with a server of our own, which thinks for a moment before each word."""
    from aiosock.testing import Peer, Server

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        asked = json.loads(request.body)["messages"][-1]["content"] if request else ""
        await peer.send(head)
        for word in f"You asked: {asked} I only repeat what I hear.".split(" "):
            await asyncio.sleep(0.02)
            await peer.send(chunk(json.dumps({"choices": [{"delta": {"content": f"{word} "}}]})))
        await peer.send(chunk("[DONE]") + b"0\r\n\r\n")

    def chunk(data: str) -> bytes:
        event = f"data: {data}\n\n".encode()
        return b"%x\r\n%s\r\n" % (len(event), event)

    async with Server(script) as server:
        await answer(f"{server.url}/v1/chat/completions", "parrot", question)


def main() -> None:
    """Read the command line; exit with 1 where there is no answer."""
    parser = argparse.ArgumentParser(description="Print a language model's answer as it is written.")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--url", help="where the service takes questions")
    parser.add_argument("--model", default="default", help="whom to ask")
    arguments = parser.parse_args()
    asking = (
        answer(arguments.url, arguments.model, arguments.question) if arguments.url else pretend(arguments.question)
    )
    try:
        aiosock.run(asking)
    except (AnswerError, aiosock.AiosockError) as error:
        sys.exit(f"no answer: {error}")


if __name__ == "__main__":
    main()
