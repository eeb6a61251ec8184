"""Tokens of the OpenID Connect provider that is configured, and of nobody else; the provider is a real HTTP server."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient
from pydantic import ValidationError

from service.access import oidc
from service.errors import RequestError
from service.settings import Settings
from tests.service_samples import serve, settings_for
from tests.test_access import bearer, problem

pytest_plugins = ["tests.service_fixtures"]

AUDIENCE = "alta"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class Provider:
    """Publishes the public halves of ``keys``, and counts how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {"one": rsa_key()}
        self.asked: list[str] = []
        self.down = False
        self.issuer = ""
        self.named: str | None = None  # the issuer that it says it is; None for the true one
        self.redirect: str | None = None

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        if self.down:
            return 500, {}
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.named or self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        return 200, {"keys": [self._jwk(kid, key) for kid, key in self.keys.items()]}

    @staticmethod
    def _jwk(kid: str, key: Key) -> dict[str, Any]:
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}

    def token(self, kid: str = "one", algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        now = int(time.time())
        body = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, "scope": "search"}
        body = {name: value for name, value in (body | claims).items() if value is not None}
        return jwt.encode(body, key or self.keys[kid], algorithm, headers={"kid": kid})

    def fetches(self) -> int:
        return self.asked.count("/keys")


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = found.answer(self.path)
            if found.redirect and self.path == "/keys":
                self.send_response(302)
                self.send_header("Location", found.redirect)
                self.end_headers()
                return
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.issuer = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()


@pytest.fixture
def verifier(provider: Provider, tmp_path: Path) -> oidc.TokenVerifier:
    return oidc.TokenVerifier(settings(tmp_path, provider))


def settings(folder: Path, provider: Provider, **changes: Any) -> Settings:
    return settings_for(folder, oidc_issuer=provider.issuer, oidc_audience=AUDIENCE, **changes)


def test_a_token_lets_its_subject_do_what_its_scopes_say(archive_folder: Path, provider: Provider) -> None:
    with serve(settings(archive_folder, provider)) as client:
        assert client.get("/v1/model", headers=bearer(provider.token())).status_code == 200
        assert problem(client.get("/metrics", headers=bearer(provider.token()))) == (403, "missing-scope")
        assert client.get("/metrics", headers=bearer(provider.token(scope="openid admin"))).status_code == 200
        assert problem(client.get("/v1/model")) == (401, "authentication-required")
        expired = provider.token(exp=int(time.time()) - 60)
        assert problem(client.get("/v1/model", headers=bearer(expired))) == (401, "bad-credentials")


def test_keys_of_elliptic_curves_are_taken(provider: Provider, verifier: oidc.TokenVerifier) -> None:
    provider.keys["curve"] = ec.generate_private_key(ec.SECP256R1())
    assert verifier.caller_of(provider.token("curve", "ES256")).name == "oidc:ada"


def now(offset: int) -> int:
    return int(time.time()) + offset


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": now(-40)},
        {"exp": None},
        {"aud": "another service"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
        {"nbf": now(3600)},
        {"iat": now(3600)},
    ],
    ids=["expired", "no exp", "other aud", "no aud", "other iss", "no iss", "no sub", "not yet", "of the future"],
)
def test_a_token_that_is_out_of_time_or_for_another_place_is_refused(
    provider: Provider, verifier: oidc.TokenVerifier, claims: dict[str, Any]
) -> None:
    assert verifier.caller_of(provider.token(**claims)) is None


def test_two_clocks_may_differ_a_little(provider: Provider, verifier: oidc.TokenVerifier) -> None:
    assert verifier.caller_of(provider.token(exp=now(-10), iat=now(10))) is not None


def test_one_of_several_audiences_is_enough(provider: Provider, verifier: oidc.TokenVerifier) -> None:
    assert verifier.caller_of(provider.token(aud=["other", AUDIENCE])) is not None


def encoded(part: dict[str, Any] | bytes) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    _, body, _ = provider.token().split(".")
    return f"{encoded({'alg': 'none', 'kid': 'one'})}.{body}."


def signed_with_the_public_key(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    _, body, _ = provider.token().split(".")
    head = encoded({"alg": "HS256", "kid": "one"})
    secret = provider.keys["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return f"{head}.{body}.{encoded(hmac.digest(secret, f'{head}.{body}'.encode(), 'sha256'))}"


def signed_by_another(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    return provider.token(key=rsa_key())


def with_its_own_key(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    key = rsa_key()
    body = jwt.decode(provider.token(), options={"verify_signature": False})
    header = {"kid": "mine", "jwk": provider._jwk("mine", key), "jku": "http://evil.example/keys"}
    return jwt.encode(body, key, "RS256", headers=header)


def of_an_algorithm_that_is_not_named(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    return provider.token(algorithm="RS512")


def without_a_key_id(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    body = jwt.decode(provider.token(), options={"verify_signature": False})
    return jwt.encode(body, provider.keys["one"], "RS256")


def changed(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    head, body, signature = provider.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "==")) | {"scope": "search write admin"}
    return f"{head}.{encoded(claims)}.{signature}"


def no_token(provider: Provider, verifier: oidc.TokenVerifier) -> str:
    return "a.b.c"


FORGERIES = (
    unsigned, signed_with_the_public_key, signed_by_another, with_its_own_key, of_an_algorithm_that_is_not_named,
    without_a_key_id, changed, no_token,
)  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_token_is_refused(
    provider: Provider, verifier: oidc.TokenVerifier, forge: Callable[[Provider, oidc.TokenVerifier], str]
) -> None:
    assert verifier.caller_of(provider.token()) is not None
    assert verifier.caller_of(forge(provider, verifier)) is None


def test_unknown_keys_make_no_storm_of_fetches(provider: Provider, verifier: oidc.TokenVerifier) -> None:
    assert verifier.caller_of(provider.token()) is not None
    stranger = rsa_key()
    for number in range(50):
        assert verifier.caller_of(provider.token(f"kid{number}", key=stranger)) is None
    assert provider.fetches() == 1


def test_a_new_key_is_fetched_when_some_time_has_passed(
    provider: Provider, verifier: oidc.TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verifier.caller_of(provider.token()) is not None
    provider.keys["two"] = rsa_key()
    token = provider.token("two")
    assert verifier.caller_of(token) is None
    later = time.monotonic() + 31
    monkeypatch.setattr("jwt.jwks_client.time.monotonic", lambda: later)
    assert verifier.caller_of(token) is not None
    assert provider.fetches() == 2


def test_a_key_that_was_withdrawn_is_of_no_use_after_five_minutes(
    provider: Provider, verifier: oidc.TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = provider.token()
    assert verifier.caller_of(token) is not None
    provider.keys = {"two": rsa_key()}
    later = time.monotonic() + 301
    monkeypatch.setattr("jwt.jwk_set_cache.time.monotonic", lambda: later)
    assert verifier.caller_of(token) is None


def test_a_provider_that_is_down_is_said_and_not_asked_all_the_time(archive_folder: Path, provider: Provider) -> None:
    provider.down = True
    with serve(settings(archive_folder, provider)) as client:
        token = bearer(provider.token())
        for _ in range(5):
            answer = client.get("/v1/model", headers=token)
            assert problem(answer) == (503, "identity-provider-unavailable") and "retry-after" in answer.headers
            assert provider.issuer not in answer.text
        assert len(provider.asked) == 1
        assert client.get("/readyz").status_code == 200


def test_it_is_asked_again_after_a_pause(
    provider: Provider, verifier: oidc.TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.down = True
    with pytest.raises(RequestError):
        verifier.caller_of(provider.token())
    provider.down = False
    monkeypatch.setattr(oidc, "PAUSE_SECONDS", 0.0)
    assert verifier.caller_of(provider.token()) is not None


def test_known_keys_go_on_when_the_provider_is_down(provider: Provider, verifier: oidc.TokenVerifier) -> None:
    assert verifier.caller_of(provider.token()) is not None
    provider.down = True
    assert verifier.caller_of(provider.token()) is not None


def test_who_asks_for_unknown_keys_while_it_is_down_keeps_nobody_else_out(
    provider: Provider, verifier: oidc.TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = provider.token()
    assert verifier.caller_of(good) is not None
    provider.down = True
    later = time.monotonic() + 31
    monkeypatch.setattr("jwt.jwks_client.time.monotonic", lambda: later)
    with pytest.raises(RequestError):
        verifier.caller_of(provider.token("stranger", key=rsa_key()))
    assert verifier.caller_of(good) is not None


def test_a_provider_that_is_another_or_points_elsewhere_is_not_believed(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.named = "https://evil.example"
    with pytest.raises(RequestError):
        oidc.TokenVerifier(settings(tmp_path, provider)).caller_of(provider.token())
    provider.named, provider.redirect = None, "http://127.0.0.1:9/keys"
    with pytest.raises(RequestError):
        oidc.TokenVerifier(settings(tmp_path, provider)).caller_of(provider.token())


@pytest.mark.parametrize(
    ("changes", "claims", "scopes"),
    [
        ({}, {"scope": "search write other"}, {"search", "write"}),
        ({}, {"scope": ["admin"]}, {"admin"}),
        ({}, {"scope": None}, set()),
        ({}, {"scope": 7}, set()),
        ({"oidc_scope_claim": "realm_access.roles"}, {"realm_access": {"roles": ["search", 3]}}, {"search"}),
        ({"oidc_scope_claim": "https://alta.example/roles"}, {"https://alta.example/roles": ["search"]}, {"search"}),
        (
            {"oidc_scope_claim": "groups", "oidc_scopes": {"radiology": "search", "it": "admin write"}},
            {"groups": ["radiology", "it", "search"]},
            {"search", "admin", "write"},
        ),
        ({"oidc_scopes": {"radiology": "search"}}, {"scope": "admin"}, set()),
    ],
)
def test_claims_become_scopes_as_the_settings_say(
    provider: Provider, tmp_path: Path, changes: dict[str, Any], claims: dict[str, Any], scopes: set[str]
) -> None:
    found = oidc.TokenVerifier(settings(tmp_path, provider, **changes)).caller_of(provider.token(**claims))
    assert found.scopes == scopes


def test_a_subject_of_any_length_has_a_name_that_fits_the_audit(
    provider: Provider, verifier: oidc.TokenVerifier
) -> None:
    for subject in (500 * "x", "two\nlines", "nul\0", "half a pair \ud800"):
        assert len(verifier.caller_of(provider.token(sub=subject)).name) <= 96
        assert verifier.caller_of(provider.token(sub=subject)).name.isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        {"oidc_issuer": "https://idp.example"},
        {"oidc_audience": "alta"},
        {"oidc_issuer": "http://idp.example", "oidc_audience": "alta"},
        {"oidc_algorithms": ("HS256",)},
        {"oidc_algorithms": ("none",)},
        {"oidc_algorithms": ()},
        {"oidc_scopes": {"radiology": "everything"}},
        {"cors_origins": ("*",)},
        {"cors_origins": ("https://a.example/",)},
        {"trusted_proxies": ("proxy.example",)},
    ],
)
def test_settings_that_would_open_a_door_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_pages_of_other_origins_may_call_only_where_they_are_named(archive_folder: Path, client: TestClient) -> None:
    asked = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "POST"}
    refused = client.options("/v1/search", headers=asked)
    assert "access-control-allow-origin" not in refused.headers
    with serve(settings_for(archive_folder, cors_origins=("https://viewer.example",))) as allowing:
        answer = allowing.options("/v1/search", headers=asked | {"Access-Control-Request-Headers": "authorization"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://viewer.example"
        other = allowing.options("/v1/search", headers=asked | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert "access-control-allow-credentials" not in answer.headers
