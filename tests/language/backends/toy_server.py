"""A server on this machine that speaks as much of OpenAI's protocol as a test tells it to."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


class ToyServer:
    """Gives its answers in order, the last one again and again; keeps what it was asked.

    An answer is `(status, body)`, with headers `(status, body, headers)`, or a number of seconds
    that it waits before each of two halves of a reply.
    """

    def __init__(self, *answers):
        self.answers, self.asked, self.headers = list(answers), [], []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def _handler(toy):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                toy.asked.append((self.path, json.loads(body)))
                toy.headers.append(dict(self.headers))
                answer = toy.answers.pop(0) if len(toy.answers) > 1 else toy.answers[0]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.answer(answer)

            do_GET = do_POST

            def answer(self, answer):
                wait = answer if isinstance(answer, int | float) else 0
                status, body, *more = (200, completion("late")) if wait else answer
                data = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                    time.sleep(wait)
                    self.wfile.write(half)
                    self.wfile.flush()

            def log_message(self, *_):
                pass

        return Handler
