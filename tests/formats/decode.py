#!/usr/bin/env python3
"""Second decoder of Strongroom format v1, written from format.md alone.  Usage: decode.py DIR (DIR holds v1/suite-*)."""
import hashlib, hmac, json, pathlib, re, sys, unicodedata
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305


class Bad(Exception):
    """Any refusal."""


def need(cond, why):
    if not cond:
        raise Bad(why)


# ---- Preamble: integers, LP, H, HMAC, HKDF
def H(b): return hashlib.sha256(b).digest()
def HMAC(k, b): return hmac.new(k, b, hashlib.sha256).digest()
def LP(b): return len(b).to_bytes(4, "big") + b
def u(n, size): return n.to_bytes(size, "big")
def expand32(prk, info): return HMAC(prk, info + b"\x01")          # RFC 5869, one block
def HKDF(salt, ikm, info): return expand32(HMAC(salt, ikm), info)


class Reader:
    def __init__(self, b): self.b, self.i = b, 0

    def take(self, n):
        need(self.i + n <= len(self.b), "truncated")
        self.i += n
        return self.b[self.i - n:self.i]

    def int(self, size): return int.from_bytes(self.take(size), "big")

    def lp(self, cap=None):
        n = self.int(4)
        need(cap is None or n <= cap, "field over its cap")
        return self.take(n)

    def bool(self):
        v = self.int(1)
        need(v in (0, 1), "bool not 0 or 1")
        return v


def text(b, what):
    try:
        return b.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad(what + " is not UTF-8") from None


def ascending(items, what):
    need(all(a < b for a, b in zip(items, items[1:])), what + " unsorted or duplicate")


# ---- Record
CIPHERS = {1: AESGCM, 2: ChaCha20Poly1305}


def derive(ikm, salt, suite, aad):
    prk, ctx = HMAC(salt, ikm), H(aad)
    return expand32(prk, b"sr1 enc" + u(suite, 1) + ctx), expand32(prk, b"sr1 com" + u(suite, 1) + ctx)


def unseal(ikm, suite, aad, salt, commitment, nonce, sealed):
    key, com = derive(ikm, salt, suite, aad)
    need(hmac.compare_digest(com, commitment), "commitment")
    try:
        return CIPHERS[suite](key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Bad("tag") from None


def bucket(kind, n):
    """Padding: the one length a body of n bytes may have."""
    if kind not in (1, 2):
        for b in (256, 512, 1024, 2048):
            if n <= b:
                return b
    step = 256 if kind in (1, 2) else 4096
    return max(step, -(-n // step) * step)


class Record:
    def __init__(self, b):
        need(len(b) >= 120 + 256, "record too short")
        need(b[:3] == b"sr\x01", "record magic or format")
        need(b[3] in CIPHERS, "record suite")
        need(b[4] in (1, 2, 3, 4, 6), "record kind")
        need(b[5] == 0 and b[6:8] == b"\0\0", "record flags or reserved bytes")
        self.head, self.suite, self.kind = b[:28], b[3], b[4]
        self.term, self.version, self.gen = (int.from_bytes(b[x:y], "big") for x, y in ((8, 12), (12, 20), (20, 28)))
        k, n = self.kind, len(b) - 120
        need((self.term == 0) == (k in (1, 4)), "term zero or not, against the table")
        need(self.version > 0, "version 0")
        need((self.gen == 0) == (k == 1), "generation zero or not, against the table")
        need(k != 2 or self.version == self.gen, "state: version is not G")
        need(n == bucket(k, n) and n <= (1 << 20) + (64 << 10), "padded length")
        self.salt, self.commit, self.nonce, self.sealed = b[28:60], b[60:92], b[92:104], b[104:]

    def open(self, ikm, vault_id, store_key, path, parse):
        aad = b"sr1 rec" + self.head + vault_id + LP(store_key) + LP(path)
        plain = unseal(ikm, self.suite, aad, self.salt, self.commit, self.nonce, self.sealed)
        r = Reader(plain)
        body = parse(r)
        need(not any(plain[r.i:]), "non-zero padding")
        need(len(plain) == bucket(self.kind, r.i), "padding is not the least bucket")
        return body, plain[:r.i]

    def leaf(self, k_set, store_key):   # Set hash
        return int.from_bytes(HMAC(k_set, b"sr1 leaf" + LP(store_key) + self.head + self.commit), "big")


# ---- Keys: slot secrets
MAX_M_KIB = 1 << 20     # 4 GiB by the text, "and at most half of a known memory limit": here 2 GiB
_argon = {}


def passphrase_ikm(phrase, params):
    r = Reader(params)
    m, t, p, salt = r.int(4), r.int(4), r.int(4), r.take(32)
    need(len(params) == 44, "params length")
    need(19 * 1024 <= m <= MAX_M_KIB and 2 <= t <= 64 and 1 <= p <= 16, "Argon2id bounds")
    need(0 < len(phrase.encode()) <= 4096, "passphrase length")
    need(all(unicodedata.category(c) not in ("Cn", "Co") for c in phrase), "unassigned or private code point")
    raw = unicodedata.normalize("NFKC", phrase).encode()
    k = (raw, params)
    if k not in _argon:
        _argon[k] = hash_secret_raw(raw, salt, t, m, p, 32, Type.ID, 0x13)
    return _argon[k]


def keyfile_ikm(data, params):
    need(params == b"", "key file params not empty")
    need(32 <= len(data) <= 65536, "key file length")
    return H(b"sr1 kf" + data)


# ---- Shares, recovery code
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CAPITALS = {c: c - 32 for c in range(ord("a"), ord("z") + 1)}      # ASCII only: upper() would make a K of a Kelvin sign


def symbols(typed, prefix):
    need(len(typed.encode()) <= 1024, "text too long")
    s = "".join(typed.translate(CAPITALS).replace("-", "").split()).replace("O", "0").replace("I", "1").replace("L", "1")
    need(s.startswith(prefix) and all(c in CROCKFORD for c in s), "prefix or symbol")
    return [CROCKFORD.index(c) for c in s[len(prefix):]]


def join_symbols(values, size):
    """Highest bit first; the bits behind the last byte are zero."""
    n = 0
    for v in values:
        n = n << 5 | v
    spare = len(values) * 5 - size * 8
    need(0 <= spare < 5 and n & ((1 << spare) - 1) == 0, "number of symbols, or filling bits")
    return u(n >> spare, size)


def gf_mul(a, b, poly, bits):
    out = 0
    for i in range(bits):
        out ^= (a if b >> i & 1 else 0)
        a = a << 1 ^ (poly if a >> (bits - 1) else 0)
    return out


def recovery_code(typed):
    v = symbols(typed, "SRR1")
    need(len(v) == 45, "recovery code length")
    data = []
    for g in range(9):
        group, check = v[5 * g:5 * g + 4], v[5 * g + 4]
        for power, s in zip((4, 3, 2, 1), group):
            check ^= gf_mul(s, (2, 4, 8, 16)[power - 1], 0b100101, 5)
        need(check == g, f"recovery code group {g + 1}")
        data += group
    code = join_symbols(data[:32], 20)
    check = int.from_bytes(H(b"sr1 recovery-check" + code)[:3], "big") >> 4
    need(data[32:] == [check >> shift & 31 for shift in (15, 10, 5, 0)], "recovery code check")
    return code


def share(typed):
    b = join_symbols(symbols(typed, "SRS1"), 72)
    need(b[68:] == H(b"sr1 share-check" + b[:68])[:4], "share check")
    need(b[0] == 1, "share version")
    return dict(vault=b[1:17], set_id=b[17:33], k=b[33], n=b[34], x=b[35], y=b[36:68])


def shares_ikm(shares, params, vault_id):
    r = Reader(params)
    set_id, k, n = r.take(16), r.int(1), r.int(1)
    need(2 <= k <= n <= 32 and len(params) == 18 + 32 * n, "share parameters")
    hashes = [r.take(32) for _ in range(n)]
    for s in shares:
        need((s["vault"], s["set_id"], s["k"], s["n"]) == (vault_id, set_id, k, n), "share of another vault or set")
        need(1 <= s["x"] <= n and hashes[s["x"] - 1] == H(b"sr1 share" + set_id + u(s["x"], 1) + s["y"]), "wrong share")
    need(len({s["x"] for s in shares}) == len(shares) == k, "not k different shares")
    out = bytearray(32)
    for s in shares:
        w = 1
        for o in shares:
            if o is not s:
                inverse = next(i for i in range(256) if gf_mul(i, s["x"] ^ o["x"], 0x11b, 8) == 1)
                w = gf_mul(w, gf_mul(o["x"], inverse, 0x11b, 8), 0x11b, 8)
        for i in range(32):
            out[i] ^= gf_mul(s["y"][i], w, 0x11b, 8)
    return bytes(out)


# ---- Header
def slot_params(typ, params):
    """Slot parameters: exact lengths, the ceilings of Argon2id, the numbers of a share set. Type 6 is not read."""
    if typ in (1, 3, 7):
        need(len(params) == (44 if typ != 7 else 2504), "params length")
        m, t, p = (int.from_bytes(params[x:x + 4], "big") for x in (0, 4, 8))
        need(1 <= p <= 16 and 1 <= t <= 64 and 8 * p <= m <= 1 << 22, "Argon2id ceilings")
    elif typ in (2, 4):
        need(params == b"", "params not empty")
    elif typ == 5:
        need(len(params) >= 18, "share parameters")
        k, n = params[16], params[17]
        need(2 <= k <= n <= 32 and len(params) == 18 + 32 * n, "share parameters")


class Header:
    def __init__(self, b):
        need(108 + 32 <= len(b) <= 65536, "header size")
        r = Reader(b)
        self.magic = r.take(8)
        need(self.magic == b"SRHDR\x00\x00\x01", "header magic")
        need(r.int(4) == len(b), "header file length")
        self.seq, self.vault_id = r.int(8), r.take(16)
        need(self.seq >= 1, "header sequence 0")
        need(r.int(2) == 1, "min reader version")
        self.flags = r.take(2)
        need(self.flags == b"\0\0", "header flags")
        self.epoch, count, self.min_suite = r.int(4), r.int(2), r.int(1)
        need(self.epoch >= 1, "epoch 0")
        need(1 <= count <= 32, "slot count")
        need(self.min_suite in CIPHERS, "min_suite")
        need(r.int(1) == 0, "reserved byte 47")
        self.floor = (r.int(4), r.int(8))
        need(1 <= self.floor[0] <= self.epoch, "floor epoch")
        self.incarnation, self.prev_mac = r.take(16), r.take(32)
        need(self.seq != 1 or not any(self.prev_mac), "prev_mac of the first header")
        self.slots = []
        for _ in range(count):
            typ, sid, state, suite = r.take(4)
            need(1 <= typ <= 7, "slot type")
            need(state == 1, "slot state")
            need(suite in CIPHERS and suite >= self.min_suite, "slot suite")
            params = r.lp(4096)
            slot_params(typ, params)
            text(r.lp(64), "label")
            self.slots.append((typ, sid, suite, params, r.take(124)))
        need(len({s[1] for s in self.slots}) == count, "slot ids not unique")
        self.ring = Record(r.lp())
        need(self.ring.kind == 1 and self.ring.version == self.seq, "keyring record: kind or sequence")
        need(self.ring.suite >= self.min_suite, "keyring suite")
        self.signed, self.mac = b[:r.i], r.take(32)
        need(r.i == len(b), "bytes after the header MAC")

    def unwrap(self, slot, secret):
        typ, sid, suite, params, w = slot
        need(typ in (1, 2, 3, 4, 5), "slot type cannot be opened here")
        need(typ != 4 or params == b"", "recovery code params not empty")
        ikm = {1: lambda: passphrase_ikm(secret, params), 2: lambda: keyfile_ikm(secret, params),
               3: lambda: passphrase_ikm(secret[0], params) + keyfile_ikm(secret[1], b""), 4: lambda: secret,
               5: lambda: shares_ikm(secret, params, self.vault_id)}[typ]()
        kek = HKDF(self.vault_id, ikm, b"sr1 slot" + u(typ, 1) + u(sid, 1))
        aad = (b"sr1 slt" + self.magic + self.vault_id + self.flags + u(typ, 1) + u(sid, 1) + u(suite, 1) + LP(params))
        return unseal(kek, suite, aad, w[:32], w[32:64], w[64:76], w[76:])

    def hybrid_private(self, slot, phrase):
        """Type 7 up to the private half; ML-KEM itself is left to the vectors of the first implementation."""
        typ, sid, suite, params, _ = slot
        need(len(params) == 44 + 1216 + 124 + 1120, "hybrid params length")
        pass_part, public, w = params[:44], params[44:1260], params[1260:1384]
        kek = HKDF(self.vault_id, passphrase_ikm(phrase, pass_part), b"sr1 slot" + u(typ, 1) + u(sid, 1))
        aad = (b"sr1 prv" + self.magic + self.vault_id + self.flags + u(typ, 1) + u(sid, 1) + u(suite, 1)
               + pass_part + public)
        seed = unseal(kek, suite, aad, w[:32], w[32:64], w[64:76], w[76:])
        scalar = HKDF(b"", seed, b"sr1 hybrid-seedx")
        need(X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw() == public[:32], "x25519 half")

    def open(self, typ, secret):
        """Slot, then MAC, then keyring."""
        vrk = None
        for slot in [s for s in self.slots if s[0] == typ][:4]:
            try:
                vrk = self.unwrap(slot, secret)
                break
            except Bad:
                pass
        need(vrk is not None, "wrong secret")
        k_hdr, k_ring = (HKDF(self.vault_id, vrk, i) for i in (b"sr1 hdr-mac", b"sr1 keyring"))
        need(hmac.compare_digest(HMAC(k_hdr, self.signed), self.mac), "header MAC")
        ring = self.ring.open(k_ring, self.vault_id, b"", b"", Keyring)[0]
        need(all(t[1] >= self.min_suite for t in ring.terms.values()), "term suite under min_suite")
        return ring


class Keyring:
    def __init__(self, r):
        need(r.int(1) == 1, "keyring body version")
        self.k_name, n = r.take(32), r.int(1)
        need(1 <= n <= 2, "iks count")
        iks = [(r.int(4), [r.take(32) for _ in range(4)]) for _ in range(n)]      # K_set, K_state, K_anchor, K_hedge
        audit = [(r.int(4), r.take(32), r.int(1), r.take(32), r.int(1)) for _ in range(r.int(1))]
        n = r.int(4)
        need(n <= 1024, "term count")
        terms = [(r.int(4), r.int(1), r.int(1), r.int(8), r.take(32)) for _ in range(n)]
        for items, what in ((iks, "iks"), (audit, "audit keys"), (terms, "terms")):
            ids = [x[0] for x in items]
            need(ids and ids[0] >= 1, what + ": none, or id 0")
            ascending(ids, what)
        need(all(a[2] == 1 and a[4] in (1, 2) for a in audit), "audit alg or state")
        need(all(1 <= t[1] <= 5 and t[2] in CIPHERS for t in terms), "term state or suite")
        need(sum(a[4] == 1 for a in audit) == 1, "not exactly one active audit key")
        need(sum(t[1] == 2 for t in terms) == 1, "not exactly one active term")
        self.iks, self.terms = dict(iks), {t[0]: t[1:] for t in terms}
        self.audit = {a[0]: (a[1], a[3]) for a in audit}               # K_audit, seed of the signing key


# ---- Bodies
def body_state(r):
    need(r.int(1) == 1, "state body version")
    b = dict(lane=r.int(2), epoch=r.int(4), incarnation=r.take(16), G=r.int(8), set_hash=r.int(32), count=r.int(8),
             hdr_seq=r.int(8), hdr_mac=r.take(32), audit_seq=r.int(8), audit_head=r.take(32), last_ms=r.int(8), flags=r.int(4))
    need(b["lane"] == 0 and b["flags"] & ~3 == 0, "state lane or flags")
    need(b["epoch"] >= 1, "state epoch 0")
    need(b["hdr_seq"] >= 1, "state header sequence 0")
    n = r.int(4)
    need(n <= 1024, "state term count")
    b["terms"] = [(r.int(4), r.int(8), r.int(8)) for _ in range(n)]
    ascending([t[0] for t in b["terms"]], "state terms")
    need(not b["terms"] or b["terms"][0][0] >= 1, "state terms: id 0")
    need(all(live <= seals for _, live, seals in b["terms"]), "live above seals")
    if b["flags"] & 2:
        state_outcomes(Reader(r.lp()))
    return b


def state_outcomes(r):
    """What the audit log must say of the last group."""
    need(r.int(1) == 1, "outcomes version")
    requests = []
    for _ in range(r.int(2)):
        requests.append(r.int(8))
        refused, remarks = r.bool(), r.int(1)
        need(refused or remarks, "an outcome that says nothing")
        for _ in range(remarks):
            kind = r.int(1)
            need(kind in (1, 2), "kind of remark")
            text(r.lp(2048 if kind == 1 else 256), "remark")
            if kind == 1:
                r.take(32), r.int(8)
    ascending(requests, "outcomes")
    need(requests and r.i == len(r.b), "outcomes: none, or bytes after them")


def body_node(r):
    need(r.int(1) == 1, "node body version")
    b = dict(segment=r.lp(), has_secret=r.bool(), children=r.int(4), created=r.int(8), updated=r.int(8), dks={})
    text(b["segment"], "segment")
    need(1 <= len(b["segment"]) <= 1024 and b"/" not in b["segment"], "segment empty, too long or with a slash")
    need(b["has_secret"] or b["children"], "node without secret and children")
    if b["has_secret"]:
        b.update(current=r.int(8), oldest=r.int(8), max_versions=r.int(4), cas=r.bool(), delete_after=r.int(8))
        meta = [(r.lp(), r.lp()) for _ in range(r.int(4))]
        ascending([k for k, _ in meta], "node metadata")
        for both in meta:
            for part in both:
                text(part, "node metadata")
        m = r.int(4)
        need(m <= 1024, "version count")
        vs = [(r.int(8), r.int(8), r.int(8), r.bool(), r.take(32)) for _ in range(m)]
        ascending([v[0] for v in vs], "versions")
        need(all(v[0] >= 1 and bool(v[3]) == (not any(v[4])) for v in vs), "version 0, or DK zeros not iff destroyed")
        need(all(v[0] <= b["current"] for v in vs), "version above the current one")
        b["dks"] = {v[0]: v[4] for v in vs if not v[3]}
    return b


def body_value(r):
    need(r.int(1) == 1, "value body version")
    return dict(created=r.int(8), value=r.lp())


def body_entry(r):
    need(r.int(1) == 1, "entry body version")
    b = dict(view_key=r.lp(), not_after=r.int(8), value=r.lp())
    text(b["view_key"], "view key")
    need(1 <= len(b["view_key"]) <= 1024, "view key length")
    return b


# ---- Names
class Names:
    def __init__(self, k, vault_id): self.k, self.vault_id = k, vault_id
    def root(self, mount): return HMAC(self.k, b"r" + self.vault_id + mount)[:16]
    def child(self, parent, seg): return HMAC(self.k, b"n" + parent + LP(seg))[:16]
    def entry(self, root, key): return HMAC(self.k, b"e" + root + LP(key))[:16]

    def node(self, mount_and_path):
        mount, path = mount_and_path[:16], mount_and_path[16:]
        need(len(mount) == 16 and len(path) <= 1024, "mount id or path length")
        segs = path.split(b"/") if path else []
        need(len(segs) <= 16 and all(segs), "path segments")
        at = self.root(mount)
        for s in segs:
            at = self.child(at, s)
        return at


def open_record(b, want_kind, sk, path, hdr, ring, dks):
    """Strict parse, clear fields against the place, key by kind, open, names."""
    rec, names = Record(b), Names(ring.k_name, hdr.vault_id)
    need(rec.kind == want_kind, "kind does not fit the place")
    need(rec.suite >= hdr.min_suite, "suite under min_suite")
    k = rec.kind
    shape = {2: (b"s", 3), 3: (b"d", 33), 4: (b"v", 25), 6: (b"e", 33)}[k]
    need((sk[:1], len(sk)) == shape, "store key shape")
    if k == 2:
        need(path == b"" and rec.term in ring.iks, "state: path, or unknown iks id")
        ikm, parse = ring.iks[rec.term][1], body_state
    elif k in (3, 6):
        need(rec.term in ring.terms and ring.terms[rec.term][0] in (2, 3, 4), "unknown or unusable term")
        need(rec.suite == ring.terms[rec.term][1], "suite is not the term's")
        ikm, parse = ring.terms[rec.term][3], body_node if k == 3 else body_entry
    else:
        need(rec.version == int.from_bytes(sk[17:], "big") and rec.version in dks, "value version")
        need(sk[1:17] == names.node(path), "value: path does not hash to the node id")
        ikm, parse = dks[rec.version], body_value
    body, raw = rec.open(ikm, hdr.vault_id, sk, path, parse)
    if k == 2:
        need(sk == b"s" + u(body["lane"], 2) and body["G"] == rec.gen, "state: lane or G")
    elif k == 3:
        need(sk == b"d" + names.node(path) + names.child(names.node(path), body["segment"]), "child id re-hash")
    elif k == 6:
        need(len(path) == 16, "entry: AAD path is not a mount id")
        need(sk == b"e" + names.root(path) + names.entry(names.root(path), body["view_key"]), "entry id re-hash")
    return rec, body, raw


def refused(fn, what):
    try:
        fn()
    except Bad:
        return
    raise Bad("accepted a changed file: " + what)


def flips(b, offsets, masks):
    for i in offsets:
        for m in masks:
            yield i, b[:i] + bytes([b[i] ^ m]) + b[i + 1:]


def suite_dir(d):
    man = json.loads((d / "manifest.json").read_text())
    phrase, kf, hb = man["passphrase"], bytes.fromhex(man["key_file"]), (d / "vault.hdr").read_bytes()
    hdr = Header(hb)
    secrets = {1: phrase, 2: kf}
    for typ, sid, suite, params, w in hdr.slots:            # every slot opens on its own and gives one VRK
        need(typ in secrets, f"slot {sid}: no secret for type {typ}")
    need(len({hdr.unwrap(s, secrets[s[0]]) for s in hdr.slots}) == 1, "slots disagree on VRK")
    need({s[0] for s in hdr.slots} == {1, 2}, "expected a passphrase and a key file slot")
    hdr.open(1, phrase)
    ring = hdr.open(2, kf)
    refused(lambda: hdr.open(2, kf + b"x"), "wrong key file")
    refused(lambda: hdr.open(1, phrase + "x"), "wrong passphrase")
    offs = sorted(set(range(0, len(hb), 16)) | set(range(len(hb) - 32, len(hb))))
    for i, bad in flips(hb, offs, (0x01, 0xFF)):
        for typ in (1, 2):
            refused(lambda: Header(bad).open(typ, secrets[typ]), f"vault.hdr byte {i}, slot type {typ}")
    for bad in (hb[:-1], hb + b"\0"):
        refused(lambda: Header(bad), "vault.hdr length")
    print(f"ok {d.name}/vault.hdr seq {hdr.seq} slots {[s[0] for s in hdr.slots]} terms {len(ring.terms)}")

    dks, total, count, state = {}, 0, 0, None
    k_set = None
    opened = []
    for m in sorted(man["records"], key=lambda m: m["kind"]):     # node before value: it holds the DK
        b, sk, path = (d / m["file"]).read_bytes(), bytes.fromhex(m["store_key"]), bytes.fromhex(m["path"])
        name = f"{d.name}/{m['file']}"
        args = (m["kind"], sk, path, hdr, ring)
        try:
            rec, body, raw = open_record(b, *args, dks)
            need(raw.hex() == m["body"], "body differs from the manifest")
        except Bad as e:
            raise Bad(f"{name}: {e}") from None
        for i, bad in flips(b, range(len(b)), (0x01, 0x80, 0xFF)):
            refused(lambda: open_record(bad, *args, dks), f"{name} byte {i}")
        for bad in (b[:-1], b + b"\0", b[:-256], b + bytes(256)):
            refused(lambda: open_record(bad, *args, dks), name + " length")
        for sk2, path2 in ((sk[:-1] + bytes([sk[-1] ^ 1]), path), (sk, path + b"/x")):
            refused(lambda: open_record(b, m["kind"], sk2, path2, hdr, ring, dks), name + " at another place")
        if rec.kind == 3:
            dks = body["dks"]
        if rec.kind == 2:
            state, k_set = body, ring.iks[rec.term][0]
        else:
            opened.append((rec, sk))
        print(f"ok {name} kind {rec.kind:02x}")

    # ---- Set hash, and Start: the header the state names
    need(state is not None, "no state record")
    need(all(r.gen <= state["G"] for r, _ in opened), "record from after the state")
    total = sum(r.leaf(k_set, sk) for r, sk in opened) % (1 << 256)
    need(state["count"] == len(opened), "record_count")
    need(state["set_hash"] == total, "set_hash")
    same = state["hdr_seq"] == hdr.seq and state["hdr_mac"] == hdr.mac
    need(same or (hdr.seq == state["hdr_seq"] + 1 and hdr.prev_mac == state["hdr_mac"]), "state does not name this header")
    need((state["epoch"], state["G"]) >= hdr.floor, "state under the floor")
    need((state["epoch"], state["incarnation"]) == (hdr.epoch, hdr.incarnation), "epoch or incarnation of state and header")
    for term, live, seals in state["terms"]:
        need(live == sum(r.kind in (3, 6) and r.term == term for r, _ in opened), "live counts")
    counted = {t[0] for t in state["terms"]}
    need(all(r.term in counted for r, _ in opened if r.kind in (3, 6)), "a record of a term that the state does not count")
    print(f"ok {d.name} set hash over {len(opened)} records, header accepted")


def slots_dir(d):
    man, hb = json.loads((d / "manifest.json").read_text()), (d / "vault.hdr").read_bytes()
    hdr, phrase = Header(hb), man["passphrase"]
    code, cards = recovery_code(man["recovery"]), [share(s) for s in man["shares"]]
    secrets = {3: (phrase, bytes.fromhex(man["key_file"])), 4: code, 5: cards[1:]}
    for typ, secret in secrets.items():
        hdr.open(typ, secret)
    need(len({hdr.unwrap(s, secrets[s[0]]) for s in hdr.slots if s[0] in secrets}) == 1, "slots disagree on VRK")
    hybrid = [s for s in hdr.slots if s[0] == 7]
    need(len(hybrid) == 1, "one hybrid slot")
    hdr.hybrid_private(hybrid[0], phrase)
    refused(lambda: hdr.hybrid_private(hybrid[0], phrase + "x"), "wrong passphrase of a hybrid slot")
    hdr.open(5, [cards[2], cards[0]])
    for typ, secret in ((3, (phrase, bytes(40))), (4, bytes(20)), (5, cards[:1]), (5, [cards[0]] * 2), (5, cards)):
        refused(lambda: hdr.open(typ, secret), f"wrong secret of type {typ}")
    for typed, parse in [(man["recovery"], recovery_code)] + [(s, share) for s in man["shares"]]:
        need(parse(typed.lower().replace("-", " ").replace("0", "o").replace("1", "l")) == parse(typed), "tolerance")
        for i in range(5, len(typed)):
            for c in CROCKFORD:
                if c != typed[i] and typed[i] != "-":
                    refused(lambda: parse(typed[:i] + c + typed[i + 1:]), f"typing error at {i}")
    for i, bad in flips(hb, range(0, len(hb), 3), (0x01, 0xFF)):
        for typ in (4, 5):
            refused(lambda: Header(bad).open(typ, secrets[typ]), f"slots/vault.hdr byte {i}, slot type {typ}")
    print(f"ok {d.name}/vault.hdr slots {[s[0] for s in hdr.slots]}")


# ---- Anchor
def anchor_slot(b, hdr, ring):
    """The good slot in 4,096 bytes, or None."""
    r = Reader(b)
    if r.take(8) != b"SRANCH\0\1" or r.take(16) != hdr.vault_id:
        return None
    epoch, incarnation, gen, iks = r.int(4), r.take(16), r.int(8), r.int(4)
    signed, tag1 = b[:r.i], r.take(32)
    covered, tag2 = b[:r.i], r.take(32)
    if epoch == 0 or gen == 0 or iks not in ring.iks or any(b[r.i:]):
        return None
    if not hmac.compare_digest(HMAC(ring.iks[iks][2], b"sr1 anc1" + signed), tag1):
        return None
    return dict(epoch=epoch, incarnation=incarnation, gen=gen, k=ring.iks[iks][2], covered=covered, tag2=tag2)


def anchor(b, hdr, ring, state, commitment):
    """Compares the anchor file with the state record."""
    need(len(b) == 8192, "anchor length")
    halves = (b[:4096], b[4096:])
    slots = [anchor_slot(half, hdr, ring) for half in halves]
    good = [s for s in slots if s]
    need(good, "no good slot")
    best = max(good, key=lambda s: (s["epoch"], s["gen"]))
    need(len({s["incarnation"] for s in good if s["epoch"] == best["epoch"]}) == 1, "two incarnations of one epoch")
    need(best["epoch"] != state["epoch"] or best["incarnation"] == state["incarnation"], "another incarnation")
    mine, its = (state["epoch"], state["G"]), (best["epoch"], best["gen"])
    need(mine >= its, "acknowledged writes are missing")
    need(best["gen"] < 2 or all(any(half) for half in halves), "a slot was emptied")
    tag2 = HMAC(best["k"], b"sr1 anc2" + best["covered"] + commitment)
    need(mine != its or hmac.compare_digest(tag2, best["tag2"]), "tag2")


def anchor_dir(d):
    hdr, rows = Header((d.parent / "suite-01/vault.hdr").read_bytes()), json.loads((d / "manifest.json").read_text())
    man = json.loads((d.parent / "suite-01/manifest.json").read_text())
    ring = hdr.open(2, bytes.fromhex(man["key_file"]))
    b = (d.parent / "suite-01/state.rec").read_bytes()
    rec, state, _ = open_record(b, 2, b"s\0\0", b"", hdr, ring, {})
    for row in rows:
        try:
            anchor((d / row["file"]).read_bytes(), hdr, ring, state, rec.commit)
            got = None
        except Bad as e:
            got = str(e)
        need(got == row["refusal"], f"{row['file']}: {got}")
    print(f"ok {d.name}: {len(rows)} files")


# ---- Audit log
NUMBER = rb"(0|[1-9][0-9]*)"
LINE = re.compile(rb'(\{"seq":' + NUMBER + rb',"prev":"([0-9a-f]{64})","key":' + NUMBER
                  + rb',("type":"[^\n]*))' + rb',"hash":"([0-9a-f]{64})"\}', re.S)
TIME = rb'"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"'
BODY = re.compile(rb'"type":"(request|reply|exchange|note)","time":(' + TIME + rb')(.*)', re.S)
REPLY = re.compile(rb',"request":' + NUMBER + rb'(?![0-9])')
NOTE = re.compile(rb',"kind":"')
CHECKPOINT = re.compile(rb',"kind":"checkpoint","from":' + NUMBER + rb',"to":' + NUMBER
                        + rb',"digest":"([0-9a-f]{64})","signature":"([0-9a-f]{128})"')
KEY = re.compile(rb',"kind":"key","new":' + NUMBER + rb',"old_public":"([0-9a-f]{64})","public":"([0-9a-f]{64})"'
                 + rb',"old_signature":"([0-9a-f]{128})","signature":"([0-9a-f]{128})"')
NAMES_REQUEST = re.compile(rb',"kind":"(unfinished|issued|alarm)"(,"request":.*)', re.S)
REOPENED = re.compile(rb',"kind":"reopened","new":(true|false),"pending":\[[^\]]*\]')


def fits(number, bits): return int(number) < 1 << bits


def signed_by(public, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def audit_value(k_audit, value):
    return "hmac-sha256:" + HMAC(HMAC(k_audit, b"sr1 audit value"), value).hex()


def audit_log(data, keys):
    """Verifies one file of a log; the number of the first bad line goes before the reason."""
    need(data.endswith(b"\n"), "the last line is incomplete")
    prev, covered, first, signed, last, only = bytes(32), [], None, 0, 0, None
    for n, line in enumerate(data[:-1].split(b"\n"), 1):
        def check(cond, why):
            need(cond, f"{n}: {why}")
        m = LINE.fullmatch(line)
        body = m and BODY.fullmatch(m[5])
        check(body and len(line) <= 1 << 20 and fits(m[2], 64) and fits(m[4], 32), "not an entry")
        kind, rest, seq, key = body[1], body[3], int(m[2]), int(m[4])
        shape = {b"reply": REPLY, b"note": NOTE}.get(kind)
        check(shape is None or shape.match(rest), "not an entry")
        note = rest.split(b'"', 5)[3] if kind == b"note" else None
        names = kind == b"note" and NAMES_REQUEST.fullmatch(rest)
        check(not names or REPLY.match(names[2]), "not an entry")
        fresh = REOPENED.match(rest) if note == b"reopened" else None
        check(note != b"reopened" or fresh, "not an entry")
        fresh = fresh and fresh[1] == b"true"
        c = {b"checkpoint": CHECKPOINT, b"key": KEY}.get(note)
        fields = c and c.fullmatch(rest)
        check(c is None or fields, "not an entry")
        check(only in (None, key), "the key was replaced")
        check(key in keys, "unknown key")
        k_audit, seed = keys[key]
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        entry = HMAC(HMAC(k_audit, b"sr1 audit chain"), b"sr1 audit entry" + bytes.fromhex(m[3].decode()) + m[1])
        check(hmac.compare_digest(entry.hex().encode(), m[6]), "not genuine")
        if n == 1 and fresh and seq > 0:                            # carries the chain over from the file before
            prev, last = bytes.fromhex(m[3].decode()), seq - 1
        check(seq == last + 1, "missing or misplaced")
        check(bytes.fromhex(m[3].decode()) == prev, "does not continue the one before")
        prev, last = entry, seq
        if fresh or first is None:
            covered, first = [], seq
        if note == b"checkpoint":
            start, to, digest = int(fields[1]), int(fields[2]), bytes.fromhex(fields[3].decode())
            check(fits(start, 64) and fits(to, 64), "not an entry")
            message = b"sr1 audit checkpoint" + u(key, 4) + u(start, 8) + u(to, 8) + body[2] + digest
            check(signed_by(public, bytes.fromhex(fields[4].decode()), message), "signature")
            check((start, to) == (first, seq - 1) and digest == H(b"".join(covered)), "signed over other lines")
            covered, first, signed = [], seq, signed + 1
        if note == b"key":
            new, (old_public, new_public, by_old, by_new) = int(fields[1]), (bytes.fromhex(f.decode()) for f in fields.groups()[1:])
            check(fits(new, 32), "not an entry")
            message = b"sr1 audit key" + u(key, 4) + u(new, 4) + old_public + new_public
            check(old_public == public and signed_by(public, by_old, message) and signed_by(new_public, by_new, message), "signature")
            only = new
        covered.append(line + b"\n")
    return n, prev, signed


def audit_dir(d):
    man = json.loads((d.parent / "suite-01/manifest.json").read_text())
    ring = Header((d.parent / "suite-01/vault.hdr").read_bytes()).open(2, bytes.fromhex(man["key_file"]))
    rows = json.loads((d / "manifest.json").read_text())
    for row in rows["files"]:
        try:
            lines, head, signed = audit_log((d / row["file"]).read_bytes(), ring.audit)
            got = None
            need((lines, head.hex(), signed) == (row["lines"], row["head"], row["checkpoints"]), "head or checkpoints")
        except Bad as e:
            got = str(e)
        need(got == row["refusal"], f"{row['file']}: {got}")
    need(audit_value(ring.audit[1][0], rows["value"].encode()) == rows["hmac"], "value hash")
    need(rows["hmac"].encode() in (d / "good.log").read_bytes(), "value hash in the log")
    print(f"ok {d.name}: {len(rows['files'])} files")


# ---- Notes of accepted losses (mount 9)
NOTE_KEY = re.compile(r"(loss)/([0-9]{10})|(salvage)/([0-9]{10})/([0-9]{6})")


def fields_of(o, required, optional):
    """Required and optional fields with their types, in this order; unknown ones are ignored."""
    need(isinstance(o, dict), "not an object")
    for name, kind in required.items():
        need(type(o.get(name)) is kind, f"field {name}")
    for name, kind in optional.items():
        need(name not in o or (type(o[name]) is kind and o[name] > 0), f"field {name}")
    known = [name for name in o if name in required or name in optional]
    order = ["what", "mount", "path", "version", "behind", "why", "record",
             "time", "accepted", "slot", "epoch", "generation", "audit_seq", "salvaged"]
    need(known == [name for name in order if name in known], "order of fields")


def note(key, data):
    """The number of records that an entry of mount 9 names, or says were removed."""
    m, value = NOTE_KEY.fullmatch(key), json.loads(data)
    need(m, "key")
    if m[1]:
        fields_of(value, dict(time=str, accepted=list, slot=str, epoch=int, generation=int, audit_seq=int), dict(salvaged=int))
        need(value["epoch"] == int(m[2]) and all(type(line) is str for line in value["accepted"]), "epoch or lines")
        return value.get("salvaged", 0)
    need(isinstance(value, list) and value, "no list")
    for record in value:
        fields_of(record, dict(what=str, mount=str, path=str, why=str, record=str), dict(version=int, behind=int))
        need(record["what"] in ("version", "name", "entry", "stray"), "what")
        need(("version" in record) == (record["what"] == "version"), "version")
        need(bytes.fromhex(record["record"]).hex() == record["record"] != "", "record")
    return len(value)


def notes_dir(d):
    rows = json.loads((d / "manifest.json").read_text())
    for row in rows:
        need(note(row["key"], (d / row["file"]).read_bytes()) == row["records"], f"{row['file']}: records")
    print(f"ok {d.name}: {len(rows)} files")


def refused_dir(d):
    """Files that are sealed with the right keys and break one rule each."""
    rows, key_file = json.loads((d / "manifest.json").read_text()), None
    key_file = bytes.fromhex(json.loads((d.parent / "suite-01/manifest.json").read_text())["key_file"])
    node = next(m for m in json.loads((d.parent / "suite-01/manifest.json").read_text())["records"] if m["kind"] == 3)
    for row in rows:
        b = (d / row["file"]).read_bytes()

        def attempt():
            if "kind" not in row:
                return Header(b).open(2, key_file)
            hdr = Header((d.parent / row["header"]).read_bytes())
            dks = {2: bytes.fromhex(node["body"])[-32:]}
            return open_record(b, row["kind"], bytes.fromhex(row["store_key"]), bytes.fromhex(row["path"]), hdr,
                               hdr.open(2, key_file), dks)
        try:
            attempt()
        except Bad as e:
            need(str(e) == row["refusal"], f"{row['file']} is refused for another reason: {e}")
            continue
        raise Bad(f"{row['file']} was accepted")
    print(f"ok {d.name}: {len(rows)} files, each refused for its reason")


def main():
    dirs = sorted((pathlib.Path(sys.argv[1]) / "v1").glob("suite-*")) if len(sys.argv) == 2 else []
    if not dirs:
        sys.exit("usage: decode.py DIR (DIR holds v1/suite-*)")
    for d in dirs:
        try:
            suite_dir(d)
        except Bad as e:
            sys.exit(f"FAIL {d.name}: {e}")
    try:
        slots_dir(dirs[0].parent / "slots")
        for name, read in (("refused", refused_dir), ("anchor", anchor_dir), ("audit", audit_dir), ("notes", notes_dir)):
            read(dirs[0].parent / name)
    except Bad as e:
        sys.exit(f"FAIL: {e}")


if __name__ == "__main__":
    main()
