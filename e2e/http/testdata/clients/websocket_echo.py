"""A client of WebSocket at an echo: websocket_echo.py CA URL. The proxy is that of the environment."""
import sys

import websocket

ws = websocket.create_connection(sys.argv[2], sslopt={"ca_certs": sys.argv[1]}, timeout=30)
total = 0
for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
    said = bytes(i * 7 % 251 for i in range(size))
    ws.send_binary(said)
    assert ws.recv() == said, size
    ws.send("é" * (size // 2))
    assert ws.recv() == "é" * (size // 2), size
    total += 2
ws.close()
print("echoed", total, "messages, closed", ws.connected)
