"""Independent decoder of format v1, from docs/format.md. Usage: decode.py DIR (tests/formats)."""
import hashlib, hmac, json, pathlib, struct, sys
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

class Bad(Exception):
    pass

def need(condition, what):
    if not condition:
        raise Bad(what)

def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()

def lp(data):
    return struct.pack(">I", len(data)) + data

def hkdf(salt, ikm, info):
    return mac(mac(salt, ikm), info, b"\x01")

class Reader:
    def __init__(self, data):
        self.data = data

    def take(self, n):
        need(len(self.data) >= n, "data ends too early")
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def num(self, n):
        return int.from_bytes(self.take(n), "big")

    def lp(self):
        return self.take(self.num(4))

    def finish(self):
        need(not any(self.data), "padding")

def unseal(ikm, suite, aad, salt, commit, nonce, sealed):
    tail = bytes([suite]) + hashlib.sha256(aad).digest()
    need(hmac.compare_digest(hkdf(salt, ikm, b"sr1 com" + tail), commit), "commitment")
    cipher = {1: AESGCM, 2: ChaCha20Poly1305}[suite](hkdf(salt, ikm, b"sr1 enc" + tail))
    try:
        return cipher.decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Bad("tag")

def bucket(kind, n):
    if kind in (1, 2):
        return -(-max(n, 1) // 256) * 256
    for size in (256, 512, 1024, 2048, 4096):
        if n <= size:
            return size
    return -(-n // 4096) * 4096

def open_record(ikm, vault, kind, store_key, path, record):
    need(record[:3] == b"sr\x01" and record[3] in (1, 2) and record[4] == kind, "record head")
    need(record[5:8] == b"\0\0\0" and len(record) > 120, "reserved bits or length")
    term, version, generation = struct.unpack(">IQQ", record[8:28])
    need((term == 0) == (kind in (1, 4)) and version > 0, "term does not fit the kind")
    need((generation == 0) == (kind == 1) and (kind != 2 or version == generation), "generation")
    padded = len(record) - 120
    need(padded <= (1 << 20) + (64 << 10) and bucket(kind, padded) == padded, "bucket")
    aad = b"sr1 rec" + record[:28] + vault + lp(store_key) + lp(path)
    return unseal(ikm, record[3], aad, record[28:60], record[60:92], record[92:104], record[104:])

def open_header(data, passphrase, key_file):
    """Returns one opened header for each slot: (vault id, fields, keyring)."""
    reader = Reader(data[:-32])
    need(reader.take(8) == b"SRHDR\0\0\x01" and reader.num(4) == len(data) <= 65536, "magic or length")
    seq, vault = reader.num(8), reader.take(16)
    need(reader.num(2) == 1 and reader.num(2) == 0, "reader version or flags")
    epoch, count = reader.num(4), reader.num(2)
    need(count <= 32 and reader.num(1) in (1, 2) and reader.num(1) == 0, "slots, minimum suite, reserved")
    reader.take(4 + 8)
    incarnation = reader.take(16)
    reader.take(32)
    slots = []
    for _ in range(count):
        kind, ident, state, suite = reader.take(4)
        need(state == 1, "slot state")
        params, _label = reader.lp(), reader.lp()
        slots.append((kind, ident, suite, params, reader.take(124)))
    ring = reader.lp()
    need(not reader.data, "bytes after the keyring")
    opened = []
    for kind, ident, suite, params, wrapped in slots:
        if kind == 1:
            m, t, p = struct.unpack(">III", params[:12])
            ikm = hash_secret_raw(passphrase, params[12:44], t, m, p, 32, Type.ID, 19)
        else:
            need(kind == 2 and not params, "slot type")
            ikm = hashlib.sha256(b"sr1 kf" + key_file).digest()
        kek = hkdf(vault, ikm, b"sr1 slot" + bytes([kind, ident]))
        aad = b"sr1 slt" + data[:8] + vault + b"\0\0" + bytes([kind, ident, suite]) + lp(params)
        vrk = unseal(kek, suite, aad, wrapped[:32], wrapped[32:64], wrapped[64:76], wrapped[76:])
        need(hmac.compare_digest(mac(hkdf(vault, vrk, b"sr1 hdr-mac"), data[:-32]), data[-32:]), "header mac")
        body = open_record(hkdf(vault, vrk, b"sr1 keyring"), vault, 1, b"", b"", ring)
        need(struct.unpack(">Q", ring[12:20])[0] == seq, "keyring version")
        opened.append((kind, keyring(Reader(body))))
    return vault, (epoch, incarnation, seq, data[-32:]), opened

def keyring(reader):
    need(reader.num(1) == 1, "keyring body")
    ring = {"name": reader.take(32), "sets": {}, "terms": {}}
    for _ in range(reader.num(1)):
        ident = reader.num(4)
        ring["sets"][ident] = [reader.take(32) for _ in range(4)]
    for _ in range(reader.num(1)):
        reader.take(4 + 32 + 1 + 32 + 1)
    for _ in range(reader.num(4)):
        ident, state, _suite, _ms = reader.num(4), reader.num(1), reader.num(1), reader.num(8)
        key = reader.take(32)
        if state != 5:
            ring["terms"][ident] = key
    reader.finish()
    return ring

def data_keys(body):
    reader, keys = Reader(body), {}
    need(reader.num(1) == 1, "node body")
    segment, secret = reader.lp(), reader.num(1)
    reader.take(4 + 8 + 8)
    if secret:
        reader.take(8 + 8 + 4 + 1 + 8)
        for _ in range(reader.num(4)):
            reader.lp(), reader.lp()
        for _ in range(reader.num(4)):
            version = reader.num(8)
            reader.take(16)
            destroyed, key = reader.num(1), reader.take(32)
            need((key == bytes(32)) == bool(destroyed), "destroyed")
            keys[version] = key
    reader.finish()
    return segment, keys

def folder(directory):
    load = lambda name: (directory / name).read_bytes()
    manifest = json.loads(load("manifest.json"))
    secrets = (manifest["passphrase"].encode(), bytes.fromhex(manifest["key_file"]))
    header = load("vault.hdr")
    vault, fields, opened = open_header(header, *secrets)
    print(f"ok {directory.name}/vault.hdr slots {[kind for kind, _ in opened]}")
    flipped = bytearray(header)
    flipped[-1] ^= 1
    refused(lambda: open_header(bytes(flipped), *secrets))
    need({kind for kind, _ in opened} == {1, 2}, "both slot types")
    ring, mount = opened[0][1], bytes.fromhex(manifest["mount_id"])
    root = mac(ring["name"], b"r", vault, mount)[:16]
    keys, total, count = {}, 0, 0
    for row in manifest["records"]:
        record, kind = load(row["file"]), row["kind"]
        store_key, path, want = (bytes.fromhex(row[k]) for k in ("store_key", "path", "body"))
        term, version = struct.unpack(">IQ", record[8:20])
        ikm = {2: lambda: ring["sets"][term][1], 4: lambda: keys[version]}.get(kind, lambda: ring["terms"][term])()
        body = open_record(ikm, vault, kind, store_key, path, record)
        need(body[:len(want)] == want and not any(body[len(want):]), "body")
        if kind == 3:
            segment, keys = data_keys(body)
            node = mac(ring["name"], b"n", root, lp(segment))[:16]
            need(store_key == b"d" + root + node, "node id")
        elif kind == 4:
            need(store_key == b"v" + node + struct.pack(">Q", version), "value key")
        elif kind == 6:
            view_key = Reader(body[1:]).lp()
            need(store_key == b"e" + root + mac(ring["name"], b"e", root, lp(view_key))[:16], "entry id")
        else:
            state = Reader(body)
            need(state.take(3) == b"\x01\0\0" and state.num(4) == fields[0] and state.take(16) == fields[1], "epoch")
            need(state.num(8) == version and state.num(32) == total % (1 << 256), "set hash")
            need(state.num(8) == count and state.num(8) == fields[2] and state.take(32) == fields[3], "header")
        if kind != 2:
            leaf = mac(next(iter(ring["sets"].values()))[0], b"sr1 leaf", lp(store_key), record[:28], record[60:92])
            total, count = total + int.from_bytes(leaf, "big"), count + 1
        for at in range(len(record)):
            bad = bytearray(record)
            bad[at] ^= 1
            refused(lambda: open_record(ikm, vault, kind, store_key, path, bytes(bad)))
        print(f"ok {directory.name}/{row['file']} kind {kind:02d}, every flipped byte refused")

def refused(attempt):
    try:
        attempt()
    except Bad:
        return
    raise Bad("a flipped byte was accepted")

def main():
    folders = sorted(pathlib.Path(sys.argv[1]).glob("v1/suite-*"))
    need(len(folders) == 2, "two suites expected")
    for directory in folders:
        folder(directory)

try:
    main()
except (Bad, KeyError, OSError, ValueError) as error:
    sys.exit(f"mismatch: {error!r}")
