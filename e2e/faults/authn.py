"""Who somebody is, told by others: issuers of tokens by flags and by a file, their keys, rules in CEL, and who need not say."""

import base64
import json
import subprocess
import time

from cluster import expect, until
from faults._https import Https, refused_start, restarted

ARGS = ["--disable-agent"]
START = False
PORT = 9446
URL = f"https://127.0.0.1:{PORT}"
BARE = ("--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--insecure-skip-tls-verify")

# Says what it is, and has the keys of a file.
ISSUER = r'''
class Answers(Base):
    def do_GET(self):
        self.note(self.path)
        base = f"https://127.0.0.1:{sys.argv[2]}"
        if self.path == "/.well-known/openid-configuration":
            return self.answer(200, {"issuer": base, "jwks_uri": base + "/keys"})
        if self.path == "/elsewhere":
            return self.answer(200, {"issuer": "https://issuer.example.com", "jwks_uri": base + "/keys"})
        if self.path == "/keys":
            return self.answer(200, json.load(open(f"{DIR}/keys.json")))
        self.answer(404, {})
'''


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*args, input=None):
    return subprocess.run(["openssl", *args], input=input, check=True, capture_output=True).stdout


class Key:
    """A key of the issuer: RSA, or ECDSA on P-256."""

    def __init__(self, directory, name, algorithm):
        self.name, self.algorithm, self.file = name, algorithm, str(directory / f"{name}.pem")
        if algorithm.startswith("ES"):
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.file)
        else:
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.file)

    def jwk(self):
        about = {"kid": self.name, "use": "sig"}
        if self.algorithm.startswith("ES"):
            point = openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")[-64:]
            return {**about, "kty": "EC", "crv": "P-256", "x": encoded(point[:32]), "y": encoded(point[32:])}
        modulus = openssl("rsa", "-in", self.file, "-noout", "-modulus").decode().strip().partition("=")[2]
        return {**about, "kty": "RSA", "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}

    def sign(self, text):
        options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"] if self.algorithm.startswith("PS") else []
        signature = openssl("dgst", f"-sha{self.algorithm[2:]}", "-sign", self.file, *options, input=text)
        if not self.algorithm.startswith("ES"):
            return signature
        # From DER to two numbers of 32 bytes.
        numbers, at = b"", 2
        for _ in range(2):
            length = signature[at + 1]
            numbers += signature[at + 2 : at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + length
        return numbers

    def token(self, **claims):
        whole = {"iss": URL, "aud": "us", "sub": "jane", "exp": int(time.time()) + 3600, **claims}
        text = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": self.algorithm, "kid": self.name}, whole))
        return f"{text}.{encoded(self.sign(text.encode()))}"


def show(issuer, *keys):
    (issuer.dir / "keys.json").write_text(json.dumps({"keys": [key.jwk() for key in keys]}))


def who(cluster, token):
    done = cluster.kubectl("auth", "whoami", "-o", "json", f"--token={token}", *BARE, check=False)
    return json.loads(done.stdout)["status"]["userInfo"] if done.returncode == 0 else done.stderr


def why(cluster, token):
    """What a review says of a token."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    return json.loads(cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(review)).stdout)["status"]


def test_an_issuer_by_flags_tells_who_somebody_is(cluster):
    with Https(cluster, "issuer", PORT, ISSUER) as issuer:
        keys = [Key(issuer.dir, name.lower(), name) for name in ("RS256", "PS384", "ES256", "RS512")]
        show(issuer, *keys)
        flags = [
            f"oidc-issuer-url={URL}", "oidc-client-id=us", f"oidc-ca-file={issuer.cert}", "oidc-groups-claim=groups", "oidc-groups-prefix=g:", "oidc-username-prefix=o:",
            "oidc-required-claim=hd=x", "oidc-signing-algs=RS256,PS384,ES256",
        ]  # fmt: skip
        restarted(cluster, ARGS, flags)
        expect(issuer.asked() == [], "the issuer is asked before it must be")
        for key in keys[:3]:
            found = who(cluster, key.token(hd="x", groups=["a", "b"]))
            expect(isinstance(found, dict) and found["username"] == "o:jane" and found["groups"] == ["g:a", "g:b", "system:authenticated"], (key.algorithm, found))
        expect(issuer.asked() == ["/.well-known/openid-configuration", "/keys"], "documents are not kept")
        good = keys[0]
        for token, words in (
            (keys[3].token(hd="x"), "unsupported algorithm"),
            (good.token(hd="y"), "oidc: required claim hd value does not match. Got = y, want = x"),
            (good.token(hd="x", aud="them"), "oidc: expected audience"),
            (good.token(hd="x", exp=1), "oidc: token is expired"),
            (good.token(hd="x")[:-8] + "AAAAAAAA", "failed to verify id token signature"),
        ):
            told = why(cluster, token)
            expect(not told.get("authenticated") and words in told["error"], (words, told))
            expect("Unauthorized" in who(cluster, token) or "must be logged in" in who(cluster, token), words)
        # A group's binding counts.
        cluster.kubectl("create", "clusterrolebinding", "them", "--clusterrole=view", "--group=g:a")
        cluster.kubectl("get", "pods", f"--token={good.token(hd='x', groups='a')}", *BARE)
        cluster.kubectl("delete", "clusterrolebinding", "them")
        # Other keys: asked for once a token has one of them, at bounded intervals.
        new = Key(issuer.dir, "new", "ES256")
        show(issuer, new)
        token = new.token(hd="x")
        until(lambda: isinstance(who(cluster, token), dict), "the new key is fetched", timeout=60)
        fetched = issuer.asked()
        expect(len(fetched) <= 12, f"keys are fetched for each token: {fetched}")
        expect("signature" in why(cluster, good.token(hd="x"))["error"], "a key that is gone is believed")
        issuer.stop()
        expect(isinstance(who(cluster, token), dict), "without the issuer its keys count")
    cluster.stop()


def test_a_file_of_issuers_maps_refuses_and_is_read_again(cluster):
    with Https(cluster, "issuers", PORT, ISSUER) as issuer:
        key = Key(issuer.dir, "one", "ES256")
        show(issuer, key)
        file = cluster.dir / "authentication.yaml"
        authority = issuer.cert.read_text()

        def write(prefix, anonymous=True):
            plain = {
                "issuer": {"url": URL, "certificateAuthority": authority, "audiences": ["us", "others"], "audienceMatchPolicy": "MatchAny"},
                "claimMappings": {
                    "username": {"expression": f"'{prefix}' + claims.sub"}, "groups": {"expression": "claims.roles.split(',')"}, "uid": {"claim": "id"},
                    "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
                },
                "claimValidationRules": [{"expression": "claims.exp - claims.iat <= 7200", "message": "it lasts too long"}],
                "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
            }  # fmt: skip
            other = {
                "issuer": {"url": "https://issuer.example.com", "discoveryURL": f"{URL}/elsewhere", "certificateAuthority": authority, "audiences": ["us"]},
                "claimMappings": {"username": {"claim": "sub", "prefix": "other:"}},
            }
            tree = {"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration", "jwt": [plain, other]}
            tree["anonymous"] = {"enabled": anonymous, "conditions": [{"path": "/openid/v1/jwks"}] if anonymous else []}
            file.write_text(json.dumps(tree))

        write("")
        restarted(cluster, ARGS, [f"authentication-config={file}"])
        now = int(time.time())
        whole = {"iat": now, "roles": "a,b", "id": "7", "tenant": "t", "aud": ["others"]}
        found = who(cluster, key.token(**whole))
        expect(found == {"username": "jane", "uid": "7", "groups": ["a", "b", "system:authenticated"], "extra": {"example.com/tenant": ["t"]}}, found)
        found = who(cluster, key.token(iss="https://issuer.example.com"))
        expect(isinstance(found, dict) and found["username"] == "other:jane", found)
        for claims, words in (
            ({"iat": now - 9000}, "failed: it lasts too long"),
            ({"sub": "system:admin"}, "failed: reserved"),
            ({"roles": 1}, "error evaluating group claim expression"),
        ):
            told = why(cluster, key.token(**{**whole, **claims}))
            expect(not told.get("authenticated") and words in told["error"], (words, told))

        def code(path, *more):
            return cluster.sh(f"curl -sk -o {cluster.dir}/answer -w '%{{http_code}}' {' '.join(more)} https://127.0.0.1:6443{path}")

        # Nobody may ask for that path, as far as roles let it; for others it must say who it is.
        expect(code("/openid/v1/jwks") == "403" and "system:anonymous" in (cluster.dir / "answer").read_text(), code("/openid/v1/jwks"))
        cluster.kubectl("create", "clusterrolebinding", "nobody", "--clusterrole=system:service-account-issuer-discovery", "--group=system:unauthenticated")
        expect(code("/openid/v1/jwks") == "200", "a role of nobody's counts")
        expect(code("/api") == "401" and code("/.well-known/openid-configuration") == "401", "other paths")
        expect(code("/openid/v1/jwks", "-H", "'Authorization: Bearer nonsense'") == "401", "a wrong token")
        write("", anonymous=False)
        until(lambda: any("anonymous: Forbidden: changed from initial configuration file" in line for line in cluster.log_lines()), "the refusal is logged")
        expect(code("/openid/v1/jwks") == "200", "a wrong file counts")
        write("new:")
        until(lambda: isinstance(who(cluster, key.token(**whole)), dict) and who(cluster, key.token(**whole))["username"] == "new:jane", "the file is read again")
    cluster.stop()


def test_what_cannot_be_is_refused_by_name(cluster):
    file = cluster.dir / "wrong.yaml"

    def write(**tree):
        file.write_text(json.dumps({"apiVersion": "apiserver.config.k8s.io/v1beta1", "kind": "AuthenticationConfiguration", **tree}))

    write(jwt=[{"issuer": {"url": "http://a", "audiences": ["x"]}, "claimMappings": {"username": {"expression": "claims.email"}}}])
    issuer = ["oidc-issuer-url=https://a", "oidc-client-id=c"]
    for arguments, words in (
        (issuer[:1], "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"),
        ([*issuer, "oidc-signing-algs=HS256"], 'oidc: unsupported signing alg: "HS256"'),
        ([*issuer, "oidc-signing-algs=ES512"], "oidc-signing-algs ES512 is not supported by this version of k3rs"),
        ([*issuer, "oidc-required-claim=x"], "malformed pair, expect string=string"),
        ([*issuer, f"authentication-config={file}"], "authentication-config file and oidc-* flags are mutually exclusive"),
        (["oidc-issuer-url=http://a", "oidc-client-id=c"], 'jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https'),
        ([f"authentication-config={file}"], 'jwt[0].issuer.url: Invalid value: "http://a": URL scheme must be https'),
        ([f"authentication-config={file}"], "claims.email_verified must be used in"),
    ):
        refused_start(cluster, ARGS, arguments, words)
    write(anonymous={"enabled": True})
    refused_start(cluster, ARGS, [f"authentication-config={file}", "anonymous-auth=false"], "--anonynous-auth flag cannot be set when anonymous field is configured")
