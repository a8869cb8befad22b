"""Prints what requests gets of each URL, by the proxy of the environment."""
import sys

import requests

with requests.Session() as session:
    for url in sys.argv[1:]:
        response = session.get(url)
        response.raise_for_status()
        print(response.text)
