"""app.py ENDPOINT prints what comes in; app.py ENDPOINT send sends each line of standard input to all nodes."""
import json, sys, zmq

app = zmq.Context().socket(zmq.DEALER)
app.connect(sys.argv[1])


def send(lines):
    app.send_multipart([b"hello"])  # no credit: answers come, events do not
    most, unanswered = json.loads(app.recv_multipart()[1])["messages"], 0
    for line in (*lines, None):
        if line is not None:
            app.send_multipart([b"send", b"*", line.rstrip(b"\n")])
            unanswered += 1
        while unanswered and app.poll(None if line is None or unanswered == most else 0):
            kind, *rest = app.recv_multipart()
            for outcome in json.loads(rest[0]) if kind == b"sent" else []:
                unanswered -= outcome["count"]
                if outcome.get("undelivered", "refused"):
                    print(outcome, file=sys.stderr)


def receive():
    app.send_multipart([b"hello", b"2000"])
    taken = 0
    while True:
        kind, *rest = app.recv_multipart()
        if kind in (b"welcome", b"ping"):
            continue
        taken += 1
        if taken % 1000 == 0:
            app.send_multipart([b"credit", b"1000"])
        print(rest[2].decode() if kind == b"message" else f"# {kind.decode()} {rest}", flush=True)


send(sys.stdin.buffer) if sys.argv[2:] == ["send"] else receive()
