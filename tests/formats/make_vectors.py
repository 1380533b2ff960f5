#!/usr/bin/env python3
"""Makes tests/formats/v1/{refused,anchor,audit} with the keys of v1/suite-01, from format.md alone.

"refused" holds files that are sealed and tagged with the right keys and break one rule each; "anchor" and "audit" hold good
files and bad ones.  Usage: make_vectors.py DIR (DIR holds v1/suite-01).  The files are frozen: this shows how they were made.
"""
import json, pathlib, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from decode import CIPHERS, H, HKDF, HMAC, LP, Header, Keyring, Reader, Record, audit_value, bucket, derive, u

NOISE = [0]


def noise(n):
    NOISE[0] += 1
    return HMAC(b"refused", u(NOISE[0], 4))[:n]


def seal(ikm, suite, kind, term, version, gen, vault, key, path, body, padded=None):
    head = b"sr\x01" + bytes([suite, kind, 0, 0, 0]) + u(term, 4) + u(version, 8) + u(gen, 8)
    aad, salt, nonce = b"sr1 rec" + head + vault + LP(key) + LP(path), noise(32), noise(12)
    enc, com = derive(ikm, salt, suite, aad)
    return head + salt + com + nonce + CIPHERS[suite](enc).encrypt(nonce, body.ljust(padded or bucket(kind, len(body)), b"\0"), aad)


class Base:
    """The vault of suite-01: its header taken apart, so that it can be put together differently."""
    def __init__(self, d):
        self.bytes, man = (d / "vault.hdr").read_bytes(), json.loads((d / "manifest.json").read_text())
        self.key_file, self.records = bytes.fromhex(man["key_file"]), man["records"]
        h = self.header = Header(self.bytes)
        vrk = h.unwrap(next(s for s in h.slots if s[0] == 2), self.key_file)
        self.k_hdr, self.k_ring = HKDF(h.vault_id, vrk, b"sr1 hdr-mac"), HKDF(h.vault_id, vrk, b"sr1 keyring")
        self.ring, self.ring_body = h.ring.open(self.k_ring, h.vault_id, b"", b"", Keyring)
        at = self.bytes.index(h.ring.head) - 4
        self.fixed, self.slots = self.bytes[:108], self.bytes[108:at]

    def make(self, fields=(), slots=None, ring_body=None, padded=None):
        """`fields`: (offset, bytes) in the fixed part."""
        fixed, slots = bytearray(self.fixed), self.slots if slots is None else slots
        for at, b in fields:
            fixed[at:at + len(b)] = b
        record = seal(self.k_ring, 1, 1, 0, int.from_bytes(fixed[12:20], "big"), 0, self.header.vault_id, b"", b"",
                      ring_body or self.ring_body, padded)
        fixed[8:12] = u(108 + len(slots) + 4 + len(record) + 32, 4)
        covered = bytes(fixed) + slots + LP(record)
        return covered + HMAC(self.k_hdr, covered)


def main():
    root = pathlib.Path(sys.argv[1]) / "v1"
    base, out, rows = Base(root / "suite-01"), root / "refused", []
    out.mkdir(exist_ok=True)
    vault, ring, tk = base.header.vault_id, base.ring, base.ring.terms[1][3]
    node, value, entry, state = base.records

    def add(file, data, refusal, **more):
        (out / file).write_bytes(data)
        rows.append(dict(file=file, refusal=refusal, **more))

    # Headers
    add("epoch-0.hdr", base.make([(40, u(0, 4))]), "epoch 0")
    add("first-prev-mac.hdr", base.make([(76, b"\x01" * 32)]), "prev_mac of the first header")
    add("no-slot.hdr", base.make([(44, u(0, 2))], slots=b""), "slot count")
    add("floor-epoch-0.hdr", base.make([(48, u(0, 4))]), "floor epoch")
    add("floor-epoch-ahead.hdr", base.make([(48, u(2, 4))]), "floor epoch")
    add("keyring-padding.hdr", base.make(padded=bucket(1, len(base.ring_body)) + 256), "padding is not the least bucket")

    # Records, each at the place of the good one
    def rec(like, kind, body, suite=1, term=1, version=None, gen=5, ikm=tk, padded=None, key=None):
        key = bytes.fromhex(like["store_key"]) if key is None else key
        if version is None:
            version = {2: gen, 3: 2, 4: 2, 6: 1}[kind]
        return seal(ikm, suite, kind, term, version, gen, vault, key, bytes.fromhex(like["path"]), body, padded), key

    def add_rec(file, like, kind, body, refusal, header="suite-01/vault.hdr", **how):
        data, key = rec(like, kind, body, **how)
        add(file, data, refusal, kind=kind, store_key=key.hex(), path=like["path"], header=header)

    nb, vb, eb, sb = (bytes.fromhex(m["body"]) for m in (node, value, entry, state))
    dk = nb[-32:]
    far = "padding is not the least bucket"
    add_rec("node-padding.rec", node, 3, nb, far, padded=512)
    add_rec("value-padding.rec", value, 4, vb, far, padded=512, term=0, ikm=dk)
    add_rec("entry-padding.rec", entry, 6, eb, far, padded=8192)
    add_rec("state-padding.rec", state, 2, sb, far, padded=512, ikm=ring.iks[1][1])
    times = nb[12:28]
    add_rec("node-empty.rec", node, 3, b"\x01" + LP(b"db") + b"\0" + u(0, 4) + times, "node without secret and children")
    at = 1 + 4 + 2 + 1 + 4 + 16                                          # body, LP(segment), flag, children, times
    add_rec("node-version-above-current.rec", node, 3, nb[:at] + u(1, 8) + nb[at + 8:], "version above the current one")
    add_rec("node-suite.rec", node, 3, nb, "suite is not the term's", suite=2)
    add_rec("entry-suite.rec", entry, 6, eb, "suite is not the term's", suite=2)
    add_rec("node-label.rec", node, 3, nb.replace(b"owner", b"\xffwner"), "node metadata is not UTF-8")
    mount = bytes.fromhex(node["path"])
    root_id = HMAC(ring.k_name, b"r" + vault + mount)[:16]
    for name, segment in (("empty", b""), ("slash", b"a/b"), ("long", b"a" * 1025)):
        key = b"d" + root_id + HMAC(ring.k_name, b"n" + root_id + LP(segment))[:16]
        add_rec(f"node-segment-{name}.rec", node, 3, nb[:1] + LP(segment) + nb[7:], "segment empty, too long or with a slash", key=key)
    for name, view in (("empty", b""), ("long", b"k" * 1025)):
        key = b"e" + root_id + HMAC(ring.k_name, b"e" + root_id + LP(view))[:16]
        add_rec(f"entry-key-{name}.rec", entry, 6, b"\x01" + LP(view) + eb[10:], "view key length", key=key)
    k_state, no_terms = ring.iks[1][1], sb[:-24]
    for name, body, why in (
            ("epoch-0", sb[:3] + u(0, 4) + sb[7:], "state epoch 0"),
            ("header-0", sb[:71] + u(0, 8) + sb[79:], "state header sequence 0"),
            ("term-0", no_terms + u(1, 4) + u(0, 4) + sb[-16:], "state terms: id 0"),
            ("live-above-seals", sb[:-16] + u(5, 8) + u(4, 8), "live above seals")):
        add_rec(f"state-{name}.rec", state, 2, body, why, ikm=k_state)

    # A term that must not seal yet: a good header whose term 2 is pre-active, and a record under it.
    tk2, rb = noise(32), base.ring_body
    terms_at = len(rb) - (4 + 14 + 32)
    two = rb[:terms_at] + u(2, 4) + rb[terms_at + 4:] + u(2, 4) + bytes([1, 1]) + u(0, 8) + tk2
    (out / "pre-active.good.hdr").write_bytes(base.make(ring_body=two))
    add_rec("entry-pre-active.rec", entry, 6, eb, "unknown or unusable term", header="refused/pre-active.good.hdr", term=2, ikm=tk2)
    (out / "manifest.json").write_text(json.dumps(rows, indent=1) + "\n")
    anchors(root / "anchor", base, (root / "suite-01/state.rec").read_bytes()[60:92], sb)
    audit(root / "audit", ring)


def anchors(out, base, commitment, state):
    out.mkdir(exist_ok=True)
    epoch, incarnation, gen = state[3:7], state[7:23], int.from_bytes(state[23:31], "big")
    k, rows = base.ring.iks[1][2], []

    def slot(gen, epoch=epoch, incarnation=incarnation, commitment=commitment, rest=b""):
        b = b"SRANCH\0\1" + base.header.vault_id + epoch + incarnation + u(gen, 8) + u(1, 4)
        b += HMAC(k, b"sr1 anc1" + b)
        b += HMAC(k, b"sr1 anc2" + b + commitment)
        return (b + rest).ljust(4096, b"\0")

    def add(file, data, refusal=None):
        (out / file).write_bytes(data)
        rows.append(dict(file=file, refusal=refusal))

    now, before = slot(gen), slot(gen - 1, commitment=bytes(32))
    torn = b"\xff" * 512 + bytes(3584)
    add("good", before + now)
    add("torn", before + torn)
    add("first", bytes(4096) + slot(1, commitment=bytes(32)))
    add("two-behind", slot(gen - 3, commitment=bytes(32)) + slot(gen - 2, commitment=bytes(32)))
    add("short", (before + now)[:-1], "anchor length")
    add("blank", bytes(8192), "no good slot")
    add("other-place", now + torn)
    add("epoch-0", torn + slot(gen, epoch=bytes(4)), "no good slot")
    add("after-the-fields", torn + slot(gen, rest=b"\x01"), "no good slot")
    add("other-state", before + slot(gen, commitment=b"\x01" * 32), "tag2")
    add("ahead", slot(gen + 1) + now, "acknowledged writes are missing")
    add("emptied", bytes(4096) + now, "a slot was emptied")
    add("other-incarnation", before + slot(gen, incarnation=bytes(16)), "two incarnations of one epoch")
    (out / "manifest.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{len(rows)} anchors")


def audit(out, ring):
    out.mkdir(exist_ok=True)
    k_audit, seed = ring.audit[1]
    chain, sign, value = HMAC(k_audit, b"sr1 audit chain"), Ed25519PrivateKey.from_private_bytes(seed).sign, "hunter2"
    rows = []

    def time(n):
        return b'"2026-01-01T00:00:%02d.000Z"' % n

    who = (b',"id":"r%d","operation":"%s","path":"secret/data/app/db","mount":"kv","identity":"spiffe://vault/app",'
           b'"remote":"192.0.2.7:4711","policies":["app"],"decision":"allow"')
    bodies = [b'"type":"note","time":%s,"kind":"unsealed"']
    for n in (1, 2):
        bodies.append(b'"type":"request","time":%s' + who % (n, b"update") + b',"request_fields":{"password":"'
                      + audit_value(k_audit, value.encode()).encode() + b'"}')
        bodies.append(b'"type":"reply","time":%s,"request":' + b"%d" % (2 * n) + b',"outcome":"ok","status":200,"generation":'
                      + b"%d" % (n + 1) + b',"version":' + b"%d" % n)
    bodies += [None] + [b'"type":"exchange","time":%s' + who % (n, b"read") + b',"outcome":"ok","status":200' for n in range(3, 8)]
    bodies += [None, b'"type":"note","time":%s,"kind":"alarm","code":"anchor-behind"', b'"type":"note","time":%s,"kind":"sealed"']

    def log(prev_of=None, bad_signature=None, bad_digest=None, bodies=bodies, start=1, prev=bytes(32)):
        """The whole log; a fault in one line, everything after it made as if that line were right."""
        covered, first, lines = b"", start, []
        for n, body in enumerate(bodies, start):
            checkpoint = body is None
            if checkpoint:
                digest = H(covered + (b"x" if n == bad_digest else b""))
                signature = sign(b"sr1 audit checkpoint" + u(1, 4) + u(first, 8) + u(n - 1, 8) + time(n) + digest)
                if n == bad_signature:
                    signature = sign(b"other")
                body = (b'"type":"note","time":%s,"kind":"checkpoint","from":' + b"%d" % first + b',"to":' + b"%d" % (n - 1)
                        + b',"digest":"' + digest.hex().encode() + b'","signature":"' + signature.hex().encode() + b'"')
            if n == prev_of:
                prev = H(b"another line")
            begin = b'{"seq":%d,"prev":"%s","key":1,' % (n, prev.hex().encode()) + body.replace(b"%s", time(n))
            prev = HMAC(chain, b"sr1 audit entry" + prev + begin)
            line = begin + b',"hash":"' + prev.hex().encode() + b'"}\n'
            if checkpoint:
                covered, first = b"", n
            covered += line
            lines.append(line)
        return lines, prev

    def add(file, lines, head=None, refusal=None):
        (out / file).write_bytes(b"".join(lines))
        signed = sum(b'"kind":"checkpoint"' in line for line in lines)
        rows.append(dict(file=file, lines=len(lines), head=head and head.hex(), checkpoints=signed, refusal=refusal))

    good, head = log()
    add("good.log", good, head)
    add("broken-chain.log", log(prev_of=5)[0], refusal="5: does not continue the one before")
    changed = good[3]
    add("changed-hmac.log", good[:3] + [changed[:-4] + (b"0" if changed[-4:-3] != b"0" else b"1") + changed[-3:]] + good[4:],
        refusal="4: not genuine")
    add("changed-text.log", good[:6] + [good[6].replace(b"app/db", b"app/dc")] + good[7:], refusal="7: not genuine")
    add("removed-line.log", good[:7] + good[8:], refusal="8: missing or misplaced")
    add("signature.log", log(bad_signature=12)[0], refusal="12: signature")
    add("other-lines.log", log(bad_digest=12)[0], refusal="12: signed over other lines")
    add("leading-zero.log", [good[0].replace(b'"seq":1', b'"seq":01')] + good[1:], refusal="1: not an entry")
    add("torn.log", good[:-1] + [good[-1][:-1]], refusal="the last line is incomplete")

    # A second file, and what a reader takes for an entry
    reopened = b'"type":"note","time":%s,"kind":"reopened","new":true,"pending":[9]'
    add("second-file.log", *log(bodies=[reopened] + bodies[5:9] + [None], start=15, prev=head))
    add("second-file-unmarked.log", log(bodies=bodies[5:9], start=15, prev=head)[0], refusal="1: missing or misplaced")
    for name, body in (("time", b'"type":"note","time":"%.19s     ","kind":"sealed"' % time(2)[1:]),
                       ("reply-to-nothing", b'"type":"reply","time":%s,"outcome":"ok","status":200' % time(2)),
                       ("number", b'"type":"reply","time":%s,"request":01,"outcome":"ok","status":200' % time(2)),
                       ("note-without-kind", b'"type":"note","time":%s,"code":"x"' % time(2)),
                       ("type", b'"type":"event","time":%s,"kind":"sealed"' % time(2))):
        add(f"shape-{name}.log", log(bodies=[bodies[0], body, bodies[-1]])[0], refusal="2: not an entry")

    # The change to another audit key
    new_seed = noise(32)
    publics = [Ed25519PrivateKey.from_private_bytes(one).public_key().public_bytes_raw() for one in (seed, new_seed)]

    def change(by_new):
        message = b"sr1 audit key" + u(1, 4) + u(2, 4) + b"".join(publics)
        names = ("old_public", "public", "old_signature", "signature")
        fields = zip(names, publics + [sign(message), Ed25519PrivateKey.from_private_bytes(by_new).sign(message)])
        return b'"type":"note","time":%s,"kind":"key","new":2' + b"".join(b',"%s":"%s"' % (n.encode(), f.hex().encode()) for n, f in fields)

    add("key.log", *log(bodies=bodies[:5] + [change(new_seed)]))
    add("key-signature.log", log(bodies=bodies[:5] + [change(seed)])[0], refusal="6: signature")
    add("key-replaced.log", log(bodies=bodies[:5] + [change(new_seed), bodies[-1]])[0], refusal="7: the key was replaced")
    hashed = audit_value(k_audit, value.encode())
    (out / "manifest.json").write_text(json.dumps(dict(value=value, hmac=hashed, files=rows), indent=1) + "\n")
    print(f"{len(rows)} logs of {len(good)} lines")


if __name__ == "__main__":
    main()
