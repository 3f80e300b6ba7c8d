#!/usr/bin/env python3
"""Checks the golden vectors beside this file with nothing but a JSON library and SHA-256.

Recomputes every personal hash, row hash, row chain, tree, operator and national chain, seal hash, completeness sum, inclusion
proof and signature, and the signatures of export files. Exit 0: all hold; 1: the first that does not.
"""

import base64
import glob
import hashlib
import json
import os
import sys


# The members of `personal` by record type; none in others.
PERSONAL = {
    "sms": dict.fromkeys(
        [
            "adjustmentReason",
            "calledPartyAddress",
            "callingPartyAddress",
            "failureText",
            "imsi",
            "originalServedSubscriberId",
        ]
    ),
    "audit": {"details": {"faults": None, "reason": None}, "reason": None, "request": None},
    "config": {"reason": None},
    "stream": {"reason": None},
    "delivery": {"answer": {"payload": None}, "payload": None, "reason": None},
    "job": {"reason": None, "why": None},
    "quarantine": {"encoderError": None},
}

# The fields of a CDR that are hashed in the open, by schemaVersion; a version has those of the one before it, and more.
SMS = {
    "2": set(
        """adjustmentOf adjustmentType approverUserId billingIndicator bucketHour cdrId cdrSequence chainHashPrev
        chargeAmount chargeCurrency chargeType direction encoding eventTimeStamp failureCode finalState issuedByUserId
        localTimeStamp messageId messageReference operatorId personalHash recordType recordedAt recordingEntity
        schemaVersion segmentCount serviceCenterAddress source submittedAt tapTariffClass tariffVersion tenantId ticketId
        traceId voidReason""".split()
    )
}
SMS["3"] = SMS["2"] | {"correlationId"}

# The fields of a row of the system's own, in every schemaVersion.
SYSTEM = set(
    """body bucketHour cdrId cdrSequence chainHashPrev operatorId personalHash recordType recordedAt schemaVersion
    source traceId""".split()
)

# Salts of this vector, with the row that each belongs to.
SALTS = {}


# Ed25519 (RFC 8032): the field's prime, the group's order, the curve's constant.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def point_add(a, b):
    """Sum of two points in extended coordinates."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = point_add(result, point)
        point, scalar = point_add(point, point), scalar >> 1
    return result


def point_read(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert y < P and (x * x - square) % P == 0, "not a point"
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = point_read((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


# NIST P-256 (SEC 2): the field's prime, the group's order, the curve's constant and base point.
P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def p256_add(a, b):
    """Sum of two points; None is the point at infinity."""
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and (a[1] + b[1]) % P256 == 0:
        return None
    if a == b:
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], P256 - 2, P256) % P256
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], P256 - 2, P256) % P256
    x = (slope * slope - a[0] - b[0]) % P256
    return x, (slope * (a[0] - x) - a[1]) % P256


def p256_multiply(scalar, point):
    result = None
    while scalar:
        if scalar & 1:
            result = p256_add(result, point)
        point, scalar = p256_add(point, point), scalar >> 1
    return result


def check_p256(key, message, signature):
    """ECDSA over the message's SHA-256: r and s of 32 bytes each, s the lower one; the key uncompressed."""
    assert len(key) == 65 and key[0] == 4 and len(signature) == 64, "signature: form"
    x, y = int.from_bytes(key[1:33], "big"), int.from_bytes(key[33:], "big")
    assert x < P256 and y < P256 and (y * y - x * x * x + 3 * x - P256_B) % P256 == 0, "not a point"
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    assert 0 < r < P256_ORDER and 0 < s <= P256_ORDER // 2, "signature: range"
    inverse = pow(s, P256_ORDER - 2, P256_ORDER)
    e = int.from_bytes(sha(message), "big")
    point = p256_add(
        p256_multiply(e * inverse % P256_ORDER, P256_BASE), p256_multiply(r * inverse % P256_ORDER, (x, y))
    )
    assert point is not None and point[0] % P256_ORDER == r, "signature: not by this key"


def check_by(algorithm, key, message, signature):
    {"Ed25519": check_signature, "ecdsa-p256": check_p256}[algorithm](key, message, signature)


def check_signature(key, message, signature):
    s = int.from_bytes(signature[32:], "little")
    assert len(key) == 32 and len(signature) == 64 and s < ORDER, "signature: form"
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    left, right = point_multiply(s, BASE), point_add(point_read(signature[:32]), point_multiply(h, point_read(key)))
    same = all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))
    assert same, "signature: not by this key"


def sha(data):
    return hashlib.sha256(data).digest()


def canonical(value):
    """RFC 8785 for ASCII keys and integers, which is all that the format uses."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def root(leaves):
    size = 1
    while size < len(leaves):
        size *= 2
    level = leaves + [bytes(32)] * (size - len(leaves))
    while len(level) > 1:
        level = [sha(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def root_from(leaf, proof, count):
    index = proof["leafIndex"]
    assert index < count and len(proof["siblings"]) == (count - 1).bit_length(), "shape of the proof"
    for sibling in proof["siblings"]:
        pair = (bytes.fromhex(sibling), leaf) if index & 1 else (leaf, bytes.fromhex(sibling))
        leaf, index = sha(pair[0] + pair[1]), index >> 1
    return leaf


def national_leaf(entry):
    return sha(entry["operatorId"].encode() + b"\0" + bytes.fromhex(entry["chainHash"]))


def is_whole(value, expected):
    """True if an object has exactly these members, and those inside them where they are named."""
    return value.keys() == expected.keys() and all(
        inside is None or is_whole(value[key], inside) for key, inside in expected.items()
    )


def check_members(row):
    """A row has exactly the members of its schemaVersion and record type."""
    assert row["schemaVersion"] in SMS, f"{row['cdrId']}: schemaVersion {row['schemaVersion']} is not known here"
    expected = SMS[row["schemaVersion"]] if row["recordType"] == "sms" else SYSTEM
    assert row.keys() == expected, f"{row['cdrId']}: {sorted(row.keys() ^ expected)}"


def check_personal(row, personal):
    """personalHash commits to exactly the members of the record type; the salt makes it impossible to guess."""
    if personal is None:
        assert row["personalHash"] is None and row["recordType"] != "sms", f"{row['cdrId']}: personal data are missing"
        return
    assert is_whole(personal, {**PERSONAL[row["recordType"]], "salt": None}), f"{row['cdrId']}: members"
    assert len(bytes.fromhex(personal["salt"])) == 16, f"{row['cdrId']}: salt"
    assert sha(canonical(personal)).hex() == row["personalHash"], f"{row['cdrId']}: personalHash"
    assert SALTS.setdefault(personal["salt"], row["cdrId"]) == row["cdrId"], f"{row['cdrId']}: salt used twice"


def check_rows(hour, rows, heads):
    """Links, hashes and sequence of an hour's rows; the hashes by operator."""
    hashes = {}
    for number, row in enumerate(rows, 1):
        row_hash, personal = row.pop("rowHash"), row.pop("personal")
        check_members(row)
        check_personal(row, personal)
        before = hashes.setdefault(row["operatorId"], [])
        link = before[-1] if before else heads[row["operatorId"]][0]
        assert row["cdrSequence"] == number, f"{row['cdrId']}: sequence"
        assert row["chainHashPrev"] == link.hex(), f"{row['cdrId']}: chainHashPrev"
        assert sha(canonical(row)).hex() == row_hash, f"{row['cdrId']}: rowHash"
        assert row["recordedAt"][:13] == hour[:13], f"{row['cdrId']}: recordedAt"
        before.append(bytes.fromhex(row_hash))
    return hashes


def check_operators(seal, hashes, heads):
    for entry in seal["operators"]:
        name, own = entry["operatorId"], hashes.get(entry["operatorId"], [])
        bucket_root = root(own) if own else sha(b"EMPTY:" + seal["bucketHour"].encode())
        chain = sha(heads[name][1] + bucket_root)
        expected = [len(own), bucket_root.hex(), chain.hex(), heads[name][0].hex(), heads[name][1].hex()]
        fields = ["recordCount", "bucketRoot", "chainHash", "prevBucketRoot", "prevChainHash"]
        assert [entry[field] for field in fields] == expected, f"{seal['bucketHour']} {name}"
        heads[name] = (bucket_root, chain)
    names = [entry["operatorId"].encode() for entry in seal["operators"]]
    assert names == sorted(names) and set(hashes) <= {n.decode() for n in names}, "operators"


def check_completeness(seal, rows, positions):
    for entry in seal["completeness"]:
        name = entry["stream"]
        own = sum(row["source"]["stream"] == name for row in rows)
        fates = entry["appended"] + entry["duplicate"] + entry["ignored"] + entry["deadLettered"]
        span = entry["lastSequence"] - entry["firstSequence"] + 1
        assert own == entry["appended"] and entry["received"] == fates, f"{seal['bucketHour']} {name}: sums"
        assert span == entry["received"] + entry["missing"], f"{seal['bucketHour']} {name}: span"
        assert entry["firstSequence"] == positions.get(name, entry["firstSequence"] - 1) + 1, f"{name}: gap"
        positions[name] = entry["lastSequence"]
    assert set(positions) == {entry["stream"] for entry in seal["completeness"]}, "a stream disappeared"


def check_proof(proof):
    row, seal = proof["row"], proof["seal"]
    assert proof["formatVersion"] == 2 and seal["formatVersion"] == 2, "proof: formatVersion"
    check_members(row)
    check_personal(row, proof["personal"])
    assert sha(canonical(row)).hex() == proof["rowHash"], "proof: rowHash"
    assert sha(canonical(seal)).hex() == proof["sealHash"], "proof: sealHash"
    entry = next(e for e in seal["operators"] if e["operatorId"] == row["operatorId"])
    leaf = bytes.fromhex(proof["rowHash"])
    assert root_from(leaf, proof["operatorProof"], entry["recordCount"]).hex() == entry["bucketRoot"], "proof: operator"
    assert all(proof["operatorChain"][field] == entry[field] for field in proof["operatorChain"]), "proof: chain"
    national = root_from(national_leaf(entry), proof["nationalProof"], len(seal["operators"]))
    assert national.hex() == seal["bucketRoot"], "proof: national"


def check_key(key, seal, root_key):
    """The root key vouches for the key that the seal names, for this cluster and hour."""
    body = {field: value for field, value in key.items() if field != "rootSignature"}
    message = b"cdr-key-v1\0" + canonical(body)
    check_signature(bytes.fromhex(root_key), message, bytes.fromhex(key["rootSignature"]))
    assert key["keyId"] == seal["signerKeyId"] and key["clusterId"] == seal["clusterId"], "key: another's"
    assert key["fromHour"] <= seal["bucketHour"] and key["toHour"] is None, "key: hours"


def check(vector):
    SALTS.clear()
    cluster = vector["clusterId"]
    genesis = sha(f"GENESIS:{cluster}".encode())
    chain, seal_hash, heads, positions = genesis, genesis, {}, {}
    keys = {row["body"]["keyId"]: row["body"] for row in vector["rows"] if row["recordType"] == "key"}
    for hour in vector["hours"]:
        seal = hour["seal"]
        rows = [row for row in vector["rows"] if row["bucketHour"] == seal["bucketHour"]]
        for entry in seal["operators"]:
            heads.setdefault(entry["operatorId"], (sha(f"GENESIS:{cluster}:{entry['operatorId']}".encode()),) * 2)
        hashes = check_rows(seal["bucketHour"], rows, heads)
        check_operators(seal, hashes, heads)
        check_completeness(seal, rows, positions)
        bucket_root = root([national_leaf(entry) for entry in seal["operators"]])
        expected = [len(rows), bucket_root.hex(), chain.hex(), seal_hash.hex()]
        assert [seal[f] for f in ("recordCount", "bucketRoot", "prevChainHash", "prevSealHash")] == expected, "seal"
        chain, seal_hash = sha(chain + bucket_root), sha(canonical(seal))
        assert seal["chainHash"] == chain.hex() and hour["sealHash"] == seal_hash.hex(), "seal"
        key = keys[seal["signerKeyId"]]
        check_key(key, seal, vector["rootPublicKey"])
        message = b"cdr-seal-v1\0" + seal_hash
        check_by(key["algorithm"], bytes.fromhex(key["publicKey"]), message, base64.b64decode(hour["signature"]))
    assert sum(hour["seal"]["recordCount"] for hour in vector["hours"]) == len(vector["rows"]), "rows without an hour"
    signatures = {hour["sealHash"]: hour["signature"] for hour in vector["hours"]}
    for proof in vector["proofs"]:
        check_proof(proof)
        assert proof["signature"] == signatures[proof["sealHash"]], "proof: signature"
        assert proof["key"] == keys[proof["seal"]["signerKeyId"]], "proof: key"


def check_sidecar(file):
    """A sidecar is exactly four lines; it signs the 32 bytes of the file's SHA-256."""
    digest = sha(file["content"].encode())
    names = ["KeyId", "Algorithm", "Signature", "FileSha256"]
    lines = [line.split(": ", 1) for line in file["sidecar"].split("\n")]
    assert lines.pop() == [""] and [line[0] for line in lines] == names, "sidecar: lines"
    key_id, algorithm, signature, named = (line[1] for line in lines)
    assert [key_id, algorithm, named] == [file["keyId"], file["algorithm"], digest.hex()], "sidecar: fields"
    check_by(algorithm, bytes.fromhex(file["publicKey"]), digest, base64.b64decode(signature, validate=True))


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "sidecars", "sidecars.json"), encoding="utf-8") as file:
        files = json.load(file)["files"]
    for number, file in enumerate(files, 1):
        try:
            check_sidecar(file)
        except (AssertionError, KeyError, ValueError) as error:
            print(f"sidecars.json: file {number} does not hold: {error!r}", file=sys.stderr)
            return 1
    print(f"sidecars.json: {len(files)} signed files hold")
    paths = sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "*.json")))
    for path in paths:
        with open(path, encoding="utf-8") as file:
            vector = json.load(file)
        try:
            check(vector)
        except (AssertionError, KeyError, ValueError) as error:
            print(f"{os.path.basename(path)}: does not hold: {error!r}", file=sys.stderr)
            return 1
        print(f"{os.path.basename(path)}: {len(vector['rows'])} rows, {len(vector['hours'])} hours hold")
    return 0 if paths else 1


if __name__ == "__main__":
    sys.exit(main())
