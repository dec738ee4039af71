"""An MCP server over standard input and output for tests, that does what its tool's name says: behaves, or does harm.

By hand, without the library: it must be able to say what no library would.
"""

import json
import os
import sys
import time
from pathlib import Path

_MODE = sys.argv[1] if len(sys.argv) > 1 else "well"


def _say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _result(text: str, *, is_error: bool = False) -> dict[str, object]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error}


def _send(letter: str, key: str) -> None:
    """Has an effect, once for each key: a line in the file that the mode names; slowly if the letter says so."""
    letters = Path(_MODE)
    if not letters.exists() or key not in letters.read_text():
        with letters.open("a") as file:
            file.write(f"{key} {letter}\n")
    if letter.startswith("slowly"):
        time.sleep(3)


def _called(request_id: object, tool: str, arguments: dict[str, str]) -> None:
    said = arguments.get("words", "")
    match tool:
        case "echo":
            _say(
                {
                    "jsonrpc": "2.0",
                    "id": request_id,
                    "result": _result(f"{said} {os.environ.get('SECRET', '')}".strip()),
                }
            )
        case "send":
            _send(said, arguments.get("key", ""))
            _say({"jsonrpc": "2.0", "id": request_id, "result": _result("sent")})
        case "fail":
            _say({"jsonrpc": "2.0", "id": request_id, "result": _result("it rained", is_error=True)})
        case "hang":
            time.sleep(60)
        case "die":
            sys.exit(3)
        case "shout":
            _say({"jsonrpc": "2.0", "id": request_id, "result": _result("x" * 100_000)})
        case "lie":
            sys.stdout.write('{"jsonrpc": "2.0", "id": 1, "result": "' + "x" * 3_000_000)
            sys.stdout.flush()
            time.sleep(60)
        case "babble":
            for number in range(5_000):
                _say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": number}})
            time.sleep(60)
        case _:
            print("no JSON at all", flush=True)
            _say({"jsonrpc": "2.0", "id": request_id, "error": {"code": -32601, "message": "no such tool"}})


def main() -> None:
    """Answers until its input ends."""
    if _MODE == "mute":
        time.sleep(60)
    for line in sys.stdin:
        message = json.loads(line)
        match message.get("method"):
            case "initialize":
                version = message["params"]["protocolVersion"]
                info = {"name": "test", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
                _say({"jsonrpc": "2.0", "id": message["id"], "result": result})
            case "tools/call":
                _called(message["id"], message["params"]["name"], message["params"].get("arguments") or {})
            case "tools/list":
                _say({"jsonrpc": "2.0", "id": message["id"], "result": {"tools": []}})


if __name__ == "__main__":
    main()
