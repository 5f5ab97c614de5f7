"""Invalid tokens, made from a valid one and the key that signed it."""

import base64
import hashlib
import hmac
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

REQUIRED = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp"]


def encoded(value):
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def parts(token):
    header, claims, _ = token.split(".")
    return decoded(header), decoded(claims)


def private_key(data_dir, kid):
    pem = (data_dir / "keys" / f"key-{kid}.pem").read_bytes()
    return serialization.load_pem_private_key(pem, None)


def new_key(algorithm):
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def signature(key, algorithm, message):
    if algorithm == "EdDSA":
        return key.sign(message)
    if algorithm == "ES256":
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return key.sign(message, pss if algorithm.startswith("PS") else padding.PKCS1v15(), digest)


def signed(header, claims, sign):
    message = f"{encoded(header)}.{encoded(claims)}"
    return f"{message}.{encoded(sign(message.encode()))}"


def bad_tokens(token, key, jwk):
    """Yields invalid tokens, each with its fault. `key` is the private key that signed the token, `jwk` is its public
    key."""
    header, claims = parts(token)
    algorithm = header["alg"]
    now = int(time.time())

    def by_the_key(changed=(), header_changed=(), without=(), sign_as=algorithm):
        kept = {name: value for name, value in {**claims, **dict(changed)}.items() if name not in without}
        return signed({**header, **dict(header_changed)}, kept, lambda message: signature(key, sign_as, message))

    # A control without a fault. If it is refused, the other refusals prove nothing.
    yield None, by_the_key({"jti": "another"})

    head, body, tail = token.split(".")
    promoted = encoded({**claims, "role": "admin", "id": 1, "sub": "1"})
    yield "changed claims", f"{head}.{promoted}.{tail}"
    yield "a changed signature", f"{head}.{body}.{'A' if tail[0] != 'A' else 'B'}{tail[1:]}"
    yield "no signature", f"{head}.{body}."
    yield "two parts", f"{head}.{body}"
    yield "no token at all", "nonsense"
    for none in ("none", "None", "NONE"):
        yield f"alg {none}", f"{encoded({**header, 'alg': none})}.{body}."
        yield f"alg {none} with the signature", f"{encoded({**header, 'alg': none})}.{body}.{tail}"

    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    secrets = {"as PEM": pem, "as PEM without the last line end": pem.strip(), "as DER": der, "as JWK": json.dumps(jwk).encode()}
    for name in ("x", "n"):
        if name in jwk:
            secrets[f"as its {name}"] = base64.urlsafe_b64decode(jwk[name] + "==")
            secrets[f"as its {name} in base64"] = jwk[name].encode()
    for how, secret in secrets.items():
        for alg, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            sign = lambda message, secret=secret, digest=digest: hmac.new(secret, message, digest).digest()
            yield f"{alg} with the public key {how}", signed({**header, "alg": alg}, claims, sign)
    empty = hmac.new(b"", f"{encoded({**header, 'alg': 'HS256'})}.{body}".encode(), hashlib.sha256).digest()
    yield "HS256 with an empty secret", f"{encoded({**header, 'alg': 'HS256'})}.{body}.{encoded(empty)}"

    stranger = new_key(algorithm)
    by_a_stranger = lambda message: signature(stranger, algorithm, message)
    yield "another's key under this name", signed(header, claims, by_a_stranger)
    yield "an unknown key", signed({**header, "kid": "unknown"}, claims, by_a_stranger)
    yield "a key that it brings along", signed({**header, "jwk": jwk, "jku": "http://127.0.0.1:9/"}, claims, by_a_stranger)
    if algorithm == "RS256":
        for other in ("RS384", "RS512", "PS256"):
            yield f"{other} by the same key", by_the_key(header_changed={"alg": other}, sign_as=other)

    yield "typ JWT", by_the_key(header_changed={"typ": "JWT"})
    yield "no typ", signed({k: v for k, v in header.items() if k != "typ"}, claims, lambda m: signature(key, algorithm, m))
    yield "it is over", by_the_key({"iat": now - 1900, "nbf": now - 1900, "exp": now - 100})
    yield "it is not yet good", by_the_key({"nbf": now + 300})
    yield "it is from the future", by_the_key({"iat": now + 300})
    yield "another audience", by_the_key({"aud": "another"})
    yield "another issuer", by_the_key({"iss": "another"})
    yield "an issuer that begins alike", by_the_key({"iss": "doorward.example.com"})
    for name in REQUIRED:
        yield f"no {name}", by_the_key(without=[name])


def with_unknown_keys(token, count):
    """Returns this number of tokens, each with a different unknown key id."""
    header, claims = parts(token)
    tail = token.rsplit(".", 1)[1]
    return [f"{encoded({**header, 'kid': f'forged-{n}'})}.{encoded(claims)}.{tail}" for n in range(count)]
