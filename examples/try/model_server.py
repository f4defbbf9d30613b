"""A model server for a first try: it speaks as Triton does, and repeats what it is told.

Start it with `python3 examples/try/model_server.py 8000`. No library is needed.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Parrot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """`/v2/models/tensorrt_llm/generate_stream`: all text so far in each event."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = asked["text_input"].rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
        words = f"You said: {said}".split()[: asked["sampling_param_max_tokens"]]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for count in range(1, len(words) + 1):
            reason = "stop" if count == len(words) else "None"
            event = {"text_output": " ".join(words[:count]), "finish_reason": reason}
            data = f"data: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Parrot).serve_forever()
