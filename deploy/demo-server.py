"""A web server for demo.sh: answers who it is and which address it sees.

usage: demo-server.py NAME CERTIFICATE KEY COUNT
It serves ports 80 and 443, and writes a line to COUNT for each request.
"""
import http.server
import socket
import ssl
import sys
import threading

NAME, CERTIFICATE, KEY, COUNT = sys.argv[1:]


class Witness(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        source = self.client_address[0].removeprefix("::ffff:")
        body = f"{NAME} saw {source}\n".encode()
        with open(COUNT, "a", encoding="ascii") as f:
            f.write(f"{source} {self.path}\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # takes IPv4 too


plain, secure = Server(("::", 80), Witness), Server(("::", 443), Witness)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CERTIFICATE, KEY)
secure.socket = tls.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=plain.serve_forever, daemon=True).start()
secure.serve_forever()
