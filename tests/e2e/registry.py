# A registry of one image, from-the-mirror, whose root file system is on standard input. It writes down what it is asked for.
import gzip, hashlib, http.server, json, sys

def named(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()

root = sys.stdin.buffer.read()
layer = gzip.compress(root)
config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
                     "rootfs": {"type": "layers", "diff_ids": [named(root)]}}).encode()
kind = "application/vnd.docker.distribution.manifest.v2+json"
manifest = json.dumps({
    "schemaVersion": 2, "mediaType": kind,
    "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": named(config)},
    "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": len(layer),
                "digest": named(layer)}]}).encode()
here = "/v2/library/from-the-mirror/"
things = {"/v2/": (b"{}", "application/json"), here + "manifests/latest": (manifest, kind),
          here + "manifests/" + named(manifest): (manifest, kind)}
things.update({here + "blobs/" + named(data): (data, "application/octet-stream") for data in (config, layer)})

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        data, kind = things.get(self.path, (b"{}", None))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", named(data))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
    do_HEAD = do_GET

server = http.server.ThreadingHTTPServer(("127.0.0.1", 5001), Answer)
print("serving", flush=True)
server.serve_forever()
