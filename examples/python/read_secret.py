"""Reads one secret with hvac, HashiCorp Vault's client for Python, and prints the names of its keys but no value.

    pip install hvac
    python3 read_secret.py https://127.0.0.1:8200 BUNDLE app/prod

BUNDLE is a folder with ca.pem, cert.pem and key.pem. The client certificate is the credential: no token, no login.
"""

import sys

import hvac


def main() -> None:
    address, bundle, path = sys.argv[1:]
    client = hvac.Client(
        url=address,
        verify=f"{bundle}/ca.pem",
        cert=(f"{bundle}/cert.pem", f"{bundle}/key.pem"),
    )
    secret = client.secrets.kv.v2.read_secret_version(path=path, raise_on_deleted_version=True)
    for key, value in secret["data"]["data"].items():
        print(f"{key}: {len(value)} characters")


if __name__ == "__main__":
    main()
